"""Measure a VQGAN's reconstructions of held-out pictures, with torchmetrics.

Knows networks and images, both passed in. LPIPS and FID are measured only if their networks are on this machine
already: :func:`measure` downloads nothing.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqtools.models.quantizers import codebook_usage
from vqtools.models.vqgan import VQGAN


def lpips_weights_path() -> Path:
    """Where torch keeps the VGG16 of LPIPS (528 MB)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"


def fid_weights_path() -> Path:
    """Where torch-fidelity keeps the Inception network of FID (96 MB)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"


def load_lpips() -> Any:
    """LPIPS with VGG16: a function of two batches of images (b, 3, H, W) in [-1, 1] that returns a scalar.

    Downloads VGG16 if it is missing. Zhang et al. 2018, arXiv 1801.03924.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's about its own argument names
        network = LearnedPerceptualImagePatchSimilarity("vgg").net.requires_grad_(False).eval()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            return network.to(a.device)(a.float(), b.float()).mean()  # type: ignore[no-any-return]

    return distance


@torch.no_grad()
def measure(
    vqgan: VQGAN, images: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, batch_size: int = 8
) -> dict[str, float]:
    """PSNR in dB, SSIM and perceptual distance of reconstructions, fraction of codes in use and their perplexity.

    images: (n, 3, H, W) in [-1, 1], on any device. LPIPS and FID are added if their networks are present.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    parts, codes = [], []
    for part in torch.split(images, batch_size):
        reconstruction, _, quantized = vqgan(part.to(vqgan.last_layer.device))
        parts.append(reconstruction.float().clamp(-1, 1).cpu())
        codes.append(quantized.codes.cpu())
    images, reconstructions = images.cpu(), torch.cat(parts)
    real, fake = images.add(1).div(2), reconstructions.add(1).div(2)
    usage, spread = codebook_usage(torch.cat(codes), vqgan.config.codebook_size)
    measures = {
        # the mean of each picture's PSNR: a bad picture must not hide among good ones
        "psnr": float(peak_signal_noise_ratio(fake, real, data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")),
        "ssim": float(structural_similarity_index_measure(fake, real, data_range=1.0)),  # type: ignore[arg-type]
        "usage": usage,
        "perplexity": spread,
    }

    def mean(distance: Callable[[Tensor, Tensor], Tensor]) -> float:
        pairs = zip(torch.split(reconstructions, batch_size), torch.split(images, batch_size), strict=True)
        return sum(float(distance(a, b)) * len(a) for a, b in pairs) / len(images)

    if perceptual is not None:
        measures["perceptual"] = mean(perceptual)
    if lpips_weights_path().is_file():
        measures["lpips"] = mean(load_lpips())
    if fid_weights_path().is_file() and importlib.util.find_spec("torch_fidelity") and len(images) > 1:
        measures["fid"] = _fid(real, fake, batch_size)
    return measures


def _fid(real: Tensor, fake: Tensor, batch_size: int) -> float:
    """Fréchet inception distance; rough with few images. Heusel et al. 2017, arXiv 1706.08500."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    fid = FrechetInceptionDistance(normalize=True)
    for images, is_real in ((real, True), (fake, False)):
        for part in torch.split(images, batch_size):
            fid.update(part, real=is_real)
    return float(fid.compute())
