"""The measure of seams in completed pictures."""

import torch

from recipes.wide import seam_contrast
from vqtools.weights.load import load_vqgan


def test_seam_contrast_detects_a_seam() -> None:
    vqgan = load_vqgan("starter")
    smooth = torch.linspace(-0.8, 0.8, 128).expand(1, 3, 64, 128).contiguous()
    codes = vqgan.encode(smooth)
    across, others = seam_contrast(codes, vqgan, 8)
    assert across < 2 * others
    across, others = seam_contrast(codes.roll(8, 2), vqgan, 8)
    assert across > 4 * others
    across, others = seam_contrast(vqgan.encode(smooth.roll(64, 3).mT), vqgan, 8, horizontal=True)
    assert across > 4 * others
