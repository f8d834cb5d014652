"""Renderers: style images, seamless tiles, checkpointed decoders, symmetry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from vqtools.core.device import Machine
from vqtools.painting.painter import Painter
from vqtools.painting.renderers import CodeRenderer, apply_symmetry

Make = Callable[..., Painter]
CPU = Machine(torch.device("cpu"), "fp32", 1)


def test_a_renderer_decodes_like_its_vqgan(painter: Make) -> None:
    painting = painter()
    vqgan, z = (
        painting.vqgan,
        painting.z.detach() + 0.3 * torch.randn(painting.z.shape, generator=torch.Generator().manual_seed(1)),
    )
    renderer = CodeRenderer(vqgan, CPU)
    assert torch.equal(renderer.quantize(z), vqgan.quantize.quantize_nearest(z))
    assert torch.equal(renderer.decode(z), (vqgan.decode_latents(vqgan.quantize(z).latents) + 1) / 2)
    unit = vqgan.quantize
    unit.metric = "cosine"
    assert torch.equal(CodeRenderer(vqgan, CPU).quantize(z), unit(z).latents)


def test_checkpointing_gives_the_same_bits_and_shares_the_weights(painter: Make) -> None:
    plain, checkpointed = painter(), painter(checkpoint="on")
    assert [plain.step() for _ in range(3)] == [checkpointed.step() for _ in range(3)]
    assert torch.equal(plain.z, checkpointed.z)
    twin = checkpointed.renderer.vqgan
    assert {id(p) for p in twin.parameters()} == {id(p) for p in checkpointed.vqgan.parameters()}


def test_a_seamless_picture_commutes_with_rolling(painter: Make) -> None:
    painting = painter(seamless=True, size=(24, 24))
    z = painting.z.detach()
    turned = painting.decode(z.roll((3, 5), (2, 3)))
    torch.testing.assert_close(turned, painting.decode(z).roll((6, 10), (2, 3)), atol=1e-5, rtol=0)
    plain = painter(size=(24, 24))
    assert not torch.allclose(plain.decode(z.roll(3, 2)), plain.decode(z).roll(6, 2), atol=1e-2)
    assert plain.vqgan.decoder.conv_in.padding_mode == "zeros"  # the VQGAN itself is not changed
    painting.step()


def test_a_style_image_limits_the_codes(painter: Make, tmp_path: Path) -> None:
    file = tmp_path / "style.png"
    Image.effect_noise((9, 7), 80).convert("RGB").save(file)
    painting = painter(style_image=str(file), learning_rate=1, iterations=8)
    allowed = {tuple(row) for row in painting.renderer.codebook.tolist()}
    assert 0 < len(allowed) < len(painting.vqgan.codebook)
    for _ in range(6):
        painting.step()
    used = painting.renderer.quantize(painting.z_ema).permute(0, 2, 3, 1).reshape(-1, 6)
    nearest = torch.cdist(used, painting.renderer.codebook, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    assert nearest.max() < 1e-5 and len(used.unique(dim=0)) > 1
    painting.settings.style_image = ""  # during the run all codes are allowed again
    assert len(painting.renderer.codebook) == len(painting.vqgan.codebook)


@pytest.mark.parametrize("size", [(24, 16), (22, 18)])
def test_symmetric_halves_mirror_each_other(painter: Make, size: tuple[int, int]) -> None:
    for symmetry, axes in (("left-right", [2]), ("top-bottom", [1]), ("both", [1, 2])):
        painting = painter(symmetry=symmetry, size=size)
        painting.step()
        image = painting.image()
        for axis in (1, 2):
            assert torch.equal(image, image.flip(axis)) == (axis in axes)
    assert torch.equal(
        apply_symmetry(torch.arange(5.0).view(1, 1, 1, 5), "left-right").flatten(), torch.tensor([0.0, 1, 2, 1, 0])
    )
