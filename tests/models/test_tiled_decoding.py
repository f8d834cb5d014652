"""Large images decoded in strips equal those of one pass."""

import pytest
import torch
from torch import Tensor

from vqtools.models import tiled_decoding
from vqtools.models.tiled_decoding import _decode_strips, decode_any_size, decode_in_strips, strip_bounds
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.weights.load import load_vqgan

TALL = VQGANConfig(  # attention at the lowest level, four levels, as the public f16 has them
    channels=8, channel_mult=(1, 1, 2, 2), res_blocks=1, attn_resolutions=(4,), resolution=32, z_channels=8,
    embed_dim=4, codebook_size=16, norm_groups=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that every level without attention runs in strips of two to a dozen rows."""
    monkeypatch.setattr(tiled_decoding, "MAX_WHOLE_NUMEL", 0)
    monkeypatch.setattr(tiled_decoding, "STRIP_NUMEL", 2**11)


def latents(vqgan: VQGAN, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(vqgan.config.codebook_size, (1, height, width), generator=generator)
    return vqgan.codes_to_latents(codes)


def test_strips_in_fp32_equal_the_plain_decoder() -> None:
    torch.manual_seed(0)
    vqgan = VQGAN(TALL).requires_grad_(False)
    z = latents(vqgan, 7, 5) * 16
    found, expected = _decode_strips(vqgan, z, torch.float32), vqgan.decode_latents(z)
    assert found.shape == (1, 3, 56, 40)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_large_images_of_the_starter_model_differ_by_less_than_one_level_and_have_no_seams() -> None:
    vqgan = load_vqgan("starter")
    z = latents(vqgan, 12, 9)
    found, expected = decode_in_strips(vqgan, z), vqgan.decode_latents(z)
    difference = (found.clamp(-1, 1) - expected.clamp(-1, 1)).abs() / 2  # of pictures in [0, 1]
    assert difference.max() < 1 / 255
    by_row = difference.mean((0, 1, 3))
    assert by_row.max() < 4 * by_row.median()


def test_activations_beyond_half_precision_are_decoded_in_fp32() -> None:
    torch.manual_seed(0)
    vqgan = VQGAN(TALL).requires_grad_(False)
    vqgan.decoder.up[2].block[0].conv2.weight *= 1e7
    z = latents(vqgan, 6, 6) * 16
    torch.testing.assert_close(decode_in_strips(vqgan, z), vqgan.decode_latents(z), rtol=1e-3, atol=1e-3)


def test_large_grids_of_codes_are_decoded_in_strips_and_small_ones_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vqgan = VQGAN(TALL).requires_grad_(False)
    asked = []
    monkeypatch.setattr(tiled_decoding, "decode_in_strips", lambda vqgan, z: asked.append(z.shape) or z)
    assert decode_any_size(vqgan, torch.zeros(1, 8, 8, dtype=torch.int64)).shape == (1, 3, 64, 64) and not asked
    decode_any_size(vqgan, torch.zeros(1, 1, 128**2 + 1, dtype=torch.int64))
    assert asked == [(1, 4, 1, 128**2 + 1)]


@pytest.mark.parametrize("height", [1, 2, 5, 64])
def test_strips_cover_every_row_once(height: int) -> None:
    plane = torch.zeros(16, height, 16)
    rows = [row for first, last in strip_bounds(plane) for row in range(first, last)]
    assert rows == list(range(height))
