"""The losses of stage 1. Plain functions of tensors.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.1 and its reference code. Logits are those of a patch
discriminator, (b, 1, h, w); losses are scalars.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# -- what the discriminator minimises: (logits of real pictures, logits of made ones) -> scalar


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """The hinge loss, at least 0. Lim and Ye 2017, arXiv 1705.02894."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla_d(real: Tensor, fake: Tensor) -> Tensor:
    """Half of minus log D(x) + log(1 - D(x̂)), D the logits' sigmoid; at least 0. Goodfellow et al. 2014,
    arXiv 1406.2661, equation 1, in the form that does not overflow."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


DISCRIMINATOR_LOSSES = {"hinge": hinge_d, "vanilla": vanilla_d, "minimax": vanilla_d}

# -- what the generator minimises beside its reconstruction


def adversarial_g(fake: Tensor) -> Tensor:
    """Minus the mean logit of the generator's pictures, with the hinge and the vanilla loss alike."""
    return -fake.mean()


def minimax_g(fake: Tensor) -> Tensor:
    """log(1 - D(x̂)), the game as it is written down; at most 0.

    Where the discriminator is sure, its gradient vanishes (Goodfellow et al. 2014, section 3): for teaching.
    """
    return -F.softplus(fake).mean()


GENERATOR_LOSSES = {"hinge": adversarial_g, "vanilla": adversarial_g, "minimax": minimax_g}


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, cap: float = 1e4) -> Tensor:
    """Balance the adversarial term by its gradient at the decoder's last layer against the reconstruction's.

    Both gradients in, of any one shape; a detached scalar in [0, cap] out. Esser et al. 2021, equation 7.
    """
    weight: Tensor = (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, cap)
    return weight.detach()


def lecam(real: Tensor, fake: Tensor, real_mean: Tensor, fake_mean: Tensor) -> Tensor:
    """Hold each kind's logits to the other's running mean, so that few pictures are not learned by heart.

    Tseng et al. 2021, arXiv 2104.03310, equation 4.
    """
    return F.relu(real - fake_mean).square().mean() + F.relu(real_mean - fake).square().mean()


AUGMENT_DRAWS = 7  # random numbers that diff_augment takes for each picture


def diff_augment(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness, saturation, contrast, a shift by up to an eighth and a hole of half the side, for each picture.

    images (b, 3, H, W); draws (b, DRAWS) uniform in [0, 1). Differentiable. The discriminator sees real and made
    pictures through such changes alike, so that it can't learn a few hundred real ones by heart.
    Zhao et al. 2020, arXiv 2006.10738.
    """
    b, _, height, width = images.shape
    light, colour, contrast, down, right, top, left = draws.to(images).view(b, AUGMENT_DRAWS, 1, 1, 1).unbind(1)
    images = images + light - 0.5
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * colour) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (0.5 + contrast) + mean
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    y = rows + ((2 * down.view(b, 1) - 1) * height / 8).round().long()
    x = columns + ((2 * right.view(b, 1) - 1) * width / 8).round().long()
    picture = torch.arange(b, device=images.device)[:, None, None]
    shifted = images[picture, :, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    hole = ((rows - top.view(b, 1) * height).abs() < height / 4)[:, :, None]
    hole = hole & ((columns - left.view(b, 1) * width).abs() < width / 4)[:, None, :]
    return shifted.permute(0, 3, 1, 2) * (inside & ~hole)[:, None]
