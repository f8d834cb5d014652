"""Drawers: styles, seamless tiles, forgetful decoders; and what is asked of pictures and starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.painting import image_losses
from vqtools.painting.image_losses import compute_image_losses, palette_distance, total_variation
from vqtools.painting.init_images import random_gradient_image, random_noise_image
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_palette
from vqtools.painting.renderers import CodeRenderer, apply_symmetry
from vqtools.painting.settings import PaintSettings

Make = Callable[..., Painter]
CPU = Machine(torch.device("cpu"), "fp32", 1)


def test_a_drawer_decodes_as_its_network_does(painter: Make) -> None:
    painting = painter()
    vqgan, z = (
        painting.vqgan,
        painting.z.detach() + 0.3 * torch.randn(painting.z.shape, generator=torch.Generator().manual_seed(1)),
    )
    drawer = CodeRenderer(vqgan, CPU)
    assert torch.equal(drawer.quantize(z), vqgan.quantize.quantize_nearest(z))
    assert torch.equal(drawer.decode(z), (vqgan.decode_latents(vqgan.quantize(z).latents) + 1) / 2)
    unit = vqgan.quantize
    unit.metric = "cosine"
    assert torch.equal(CodeRenderer(vqgan, CPU).quantize(z), unit(z).latents)


def test_a_forgetful_decoder_has_the_same_bits_and_the_same_weights(painter: Make) -> None:
    plain, forgetful = painter(), painter(checkpoint="on")
    assert [plain.step() for _ in range(3)] == [forgetful.step() for _ in range(3)]
    assert torch.equal(plain.z, forgetful.z)
    twin = forgetful.renderer.vqgan
    assert {id(p) for p in twin.parameters()} == {id(p) for p in forgetful.vqgan.parameters()}


def test_a_seamless_picture_can_be_turned_round(painter: Make) -> None:
    painting = painter(seamless=True, size=(24, 24))
    z = painting.z.detach()
    turned = painting.decode(z.roll((3, 5), (2, 3)))
    torch.testing.assert_close(turned, painting.decode(z).roll((6, 10), (2, 3)), atol=1e-5, rtol=0)
    plain = painter(size=(24, 24))
    assert not torch.allclose(plain.decode(z.roll(3, 2)), plain.decode(z).roll(6, 2), atol=1e-2)
    assert plain.vqgan.decoder.conv_in.padding_mode == "zeros"  # the network that was handed in is as it was
    painting.step()


def test_a_style_paints_with_its_pictures_codes_alone(painter: Make, tmp_path: Path) -> None:
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
    painting.settings.style_image = ""  # and in mid-run any code again
    assert len(painting.renderer.codebook) == len(painting.vqgan.codebook)


@pytest.mark.parametrize("size", [(24, 16), (22, 18)])
def test_halves_mirror_each_other(painter: Make, size: tuple[int, int]) -> None:
    for symmetry, axes in (("left-right", [2]), ("top-bottom", [1]), ("both", [1, 2])):
        painting = painter(symmetry=symmetry, size=size)
        painting.step()
        image = painting.image()
        for axis in (1, 2):
            assert torch.equal(image, image.flip(axis)) == (axis in axes)
    assert torch.equal(
        apply_symmetry(torch.arange(5.0).view(1, 1, 1, 5), "left-right").flatten(), torch.tensor([0.0, 1, 2, 1, 0])
    )


def test_terms_are_what_they_say() -> None:
    flat, stripes = torch.full((1, 3, 4, 4), 0.5), torch.tensor([0.0, 1, 0, 1]).expand(1, 3, 4, 4)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert total_variation(flat) == 0 and total_variation(stripes) == 1
    assert image_losses.colourfulness(stripes) < 1e-3 < image_losses.colourfulness(red)
    assert palette_distance(red, [(255, 0, 0), (0, 0, 0)]) == 0
    assert palette_distance(flat, [(255, 255, 255)]) == pytest.approx(0.25)
    assert compute_image_losses(red, PaintSettings()) == {}
    asked = PaintSettings(smoothness=2, saturation=3, palette="#ffffff", palette_weight=0.5)
    assert {name: float(value) for name, value in compute_image_losses(red, asked).items()} == pytest.approx(
        {"smoothness": 0, "saturation": -3 * (2 / 9) ** 0.5, "palette": 0.5 * 2 / 3}, rel=1e-3
    )


def test_what_is_asked_of_the_picture_shows(painter: Make) -> None:
    def after(**fields: object) -> torch.Tensor:
        painting = painter(iterations=40, learning_rate=0.3, ema=0, seed=2, **fields)
        for _ in range(25):
            painting.step()
        return (painting.image().unsqueeze(0) + 1) / 2

    plain = after()
    assert total_variation(after(smoothness=100)) < 0.8 * total_variation(plain)
    assert image_losses.colourfulness(after(saturation=-30)) < 0.9 * image_losses.colourfulness(plain)
    colours = [(255, 0, 0), (0, 0, 0)]
    assert palette_distance(after(palette="#ff0000 #000000", palette_weight=30), colours) < 0.9 * palette_distance(
        plain, colours
    )


def test_a_palette_is_colours() -> None:
    assert parse_palette("#d62828, #000aFF") == [(0xD6, 0x28, 0x28), (0, 10, 255)]
    for text in ("red", "#12", "#ffffff " * 65):
        with pytest.raises(UserError, match="colour"):
            PaintSettings.parse({"palette": text})


@pytest.mark.parametrize("make", [random_noise_image, random_gradient_image])
def test_invented_starts_are_pictures_of_their_seed(make: Callable[..., torch.Tensor]) -> None:
    first, again, other = (make(torch.Generator().manual_seed(seed), 48, 32) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=0.05)
    assert first.shape == (1, 3, 32, 48) and first.min() >= -1 and first.max() <= 1
    assert first.std() > 0.05
