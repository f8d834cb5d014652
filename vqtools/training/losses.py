"""The losses of stage 1, as plain functions of tensors.

Esser, Rombach and Ommer 2021, arXiv 2012.09841, section 3.1 and its reference code. The codebook and commitment terms
of equation 4 are the quantiser's. Logits are those of a patch discriminator, (b, 1, h, w); losses are scalars.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENT_DRAWS = 7  # random numbers that diff_augment needs for each image

# -- losses of the discriminator: (logits of real images, logits of reconstructions) -> scalar


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """The hinge loss, half of E[max(0, 1 - D(x))] + E[max(0, 1 + D(x̂))]. Lim and Ye 2017, arXiv 1705.02894."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla_d(real: Tensor, fake: Tensor) -> Tensor:
    """Half of -log D(x) - log(1 - D(x̂)), where D is the sigmoid of the logits.

    Goodfellow et al. 2014, arXiv 1406.2661, equation 1; Esser et al. 2021, equation 5.
    """
    # -log σ(l) = softplus(-l), which does not overflow
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


DISCRIMINATOR_LOSSES = {"hinge": hinge_d, "vanilla": vanilla_d, "minimax": vanilla_d}

# -- adversarial losses of the generator: logits of reconstructions -> scalar


def adversarial_g(fake: Tensor) -> Tensor:
    """The negative mean logit of reconstructions, used with both the hinge and the vanilla loss."""
    return -fake.mean()


def minimax_g(fake: Tensor) -> Tensor:
    """log(1 - D(x̂)), the generator's side of the minimax game; at most 0. For teaching.

    Its gradient vanishes where the discriminator is certain (Goodfellow et al. 2014, section 3).
    """
    return -F.softplus(fake).mean()


GENERATOR_LOSSES = {"hinge": adversarial_g, "vanilla": adversarial_g, "minimax": minimax_g}


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, cap: float = 1e4) -> Tensor:
    """The weight of the adversarial term that balances gradients at the decoder's last layer.

    reconstruction, adversarial: gradients of the two losses at that layer, of the same shape. Returns a detached
    scalar in [0, cap]. Esser et al. 2021, equation 7, with δ as in the reference code.
    """
    # λ = ‖∇L_rec‖ / (‖∇L_GAN‖ + δ), equation 7
    weight: Tensor = (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, cap)
    return weight.detach()


def lecam(real: Tensor, fake: Tensor, real_mean: Tensor, fake_mean: Tensor) -> Tensor:
    """LeCam regularisation, which keeps the discriminator from memorising a small data set; at least 0.

    real_mean, fake_mean: running means (scalars) of the logits. Tseng et al. 2021, arXiv 2104.03310, equation 4.
    """
    return F.relu(real - fake_mean).square().mean() + F.relu(real_mean - fake).square().mean()


def diff_augment(images: Tensor, draws: Tensor) -> Tensor:
    """DiffAugment: random brightness, saturation, contrast, translation by up to 1/8 and a hole of half the side.

    images: (b, 3, H, W). draws: (b, AUGMENT_DRAWS), uniform in [0, 1). Differentiable. The discriminator sees real
    images and reconstructions augmented alike, so that it cannot memorise a few hundred real ones. Zhao et al. 2020,
    arXiv 2006.10738.
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
