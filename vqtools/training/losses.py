"""The losses of stage 1. Plain functions of tensors.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.1 and its reference code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss of its logits, scalar at least 0. Lim and Ye 2017, arXiv 1705.02894."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adversarial_g(fake: Tensor) -> Tensor:
    """The generator's side: minus the mean logit of its pictures."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, cap: float = 1e4) -> Tensor:
    """Balance the adversarial term by gradient norms at the decoder's last layer.

    Scalar in [0, cap], detached. Esser et al. 2021, equation 7.
    """
    (rec,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (adv,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    weight: Tensor = (rec.norm() / (adv.norm() + 1e-4)).clamp(0, cap)
    return weight.detach()
