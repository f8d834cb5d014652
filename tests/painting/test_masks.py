"""Regions: where a prompt counts, what stays, what is painted anew."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.painting.masks import Mask, bounding_box, covered_cells
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_area, parse_regions
from vqtools.painting.settings import PaintSettings

Make = Callable[..., Painter]
LEFT = (0, 0, 12, 16)


def test_the_same_area_is_the_same_mask_however_it_is_drawn() -> None:
    array = np.zeros((16, 24), dtype=bool)
    array[:, :12] = True
    picture = Image.fromarray((array * 255).astype(np.uint8))
    brush = Image.new("RGBA", (24, 16))
    brush.paste((255, 255, 255, 255), LEFT)
    drawn = [LEFT, array, torch.from_numpy(array), picture, picture.convert("RGB"), brush, picture.resize((48, 32), 0)]
    masks = {Mask.from_source(one, (24, 16)) for one in drawn}
    assert len(masks) == 1
    (mask,) = masks
    assert torch.equal(mask.at_size(16, 24), torch.from_numpy(array).float())
    assert torch.equal(mask.complement().at_size(16, 24), 1 - mask.at_size(16, 24))
    assert Mask.from_source(np.ones((16, 24)), (24, 16)).complement() is None


def test_a_mask_is_the_same_bits_out_of_a_journal_and_small() -> None:
    y, x = np.mgrid[:1088, :1920]
    mask = Mask.from_source(((x - 700) ** 2 + (y - 400) ** 2 < 300**2).astype(float), (1920, 1088))
    assert Mask.from_png(mask.png) == mask
    assert len(mask.png) < 4000 and max(Image.open(io.BytesIO(mask.png)).size) == 512
    assert abs(float(mask.at_size(1088, 1920).mean()) - np.pi * 300**2 / 1920 / 1088) < 0.002


def test_bounds_and_cells() -> None:
    mask = Mask.from_source((4, 6, 10, 12), (24, 16)).at_size(16, 24)
    assert bounding_box(mask) == (slice(6, 12), slice(4, 10))
    assert covered_cells(mask, 8, 12).nonzero().tolist() == [[r, c] for r in (3, 4, 5) for c in (2, 3, 4)]
    thin = torch.zeros(16, 24)
    thin[3, 5] = 0.2
    assert bounding_box(thin) == (slice(3, 4), slice(5, 6))


@pytest.mark.parametrize("prompt", ["a red apple", "a red apple | a blue sea:0.5"])
def test_a_prompt_changes_only_its_region(painter: Make, prompt: str) -> None:
    painting = painter(prompt=prompt, size=(24, 16))
    for index in range(prompt.count("|") + 1):
        painting.set_region(index, LEFT)
    picture = painting.decode(painting.z.detach()).clamp(0, 1)
    losses, gradient = painting._clip_losses(picture)
    assert (losses != 0).all()
    assert (gradient[..., :12] != 0).any() and (gradient[..., 12:] == 0).all()


def test_a_region_of_everything_is_as_none(painter: Make) -> None:
    bare, masked = painter(prompt="a red apple"), painter(prompt="a red apple")
    masked.set_region(0, (0, 0, 24, 16))
    assert masked.step()["loss"] == pytest.approx(bare.step()["loss"], rel=1e-5)
    masked.set_region(0, None)
    bare.z.data.copy_(masked.z.data)
    assert masked.step() == bare.step()


def test_prompts_with_regions_pull_each_to_its_own(painter: Make) -> None:
    painting = painter(prompt="red | blue", iterations=60, cutouts=6)
    painting.set_region(0, LEFT)
    scalars = [painting.step() for _ in range(50)]
    for name in ("red", "blue"):
        values = [one[name] for one in scalars]
        assert sum(values[-8:]) < sum(values[:8])


def test_what_is_protected_stays(painter: Make) -> None:
    painting = painter(learning_rate=0.5, iterations=30, init_weight=0.5)
    for _ in range(3):
        painting.step()
    before = painting.z_ema.clone()
    painting.protect(LEFT)
    for _ in range(6):
        painting.step()
    cells = covered_cells(painting.masks["protect"].at_size(16, 24), 8, 12).expand_as(before)
    for latents in (painting.z.detach(), painting.z_ema):
        torch.testing.assert_close(latents[cells], before[cells])
        assert (latents - before)[~cells].abs().mean() > 0.01
    painting.protect(None)
    painting.step()
    assert (painting.z.detach() - before)[cells].abs().max() > 1e-3


@pytest.mark.parametrize("fresh", [True, False])
def test_repainting_moves_the_masked_part_alone(painter: Make, fresh: bool) -> None:
    painting = painter(iterations=30)
    for _ in range(3):
        painting.step()
    before = painting.z_ema.clone()
    painting.repaint(LEFT, fresh)
    inside = ~covered_cells(painting.masks["protect"].at_size(16, 24), 8, 12).expand_as(before)
    assert torch.equal(painting.z_ema[~inside], before[~inside])
    assert torch.equal(painting.z_ema[inside], before[inside]) != fresh
    for _ in range(4):
        painting.step()
    torch.testing.assert_close(painting.z_ema[~inside], before[~inside])
    assert not torch.allclose(painting.z_ema[inside], before[inside], atol=1e-3)
    painting.repaint((0, 0, 24, 16), fresh)  # everything: nothing is left to protect
    assert "protect" not in painting.masks


def test_boxes_and_regions_of_settings() -> None:
    assert parse_regions("1=0,0,0.5,1 | 3= mask.png ") == {0: (0, 0, 0.5, 1), 2: "mask.png"}
    assert parse_area("a,b") == "a,b" and parse_regions(" ") == {}
    for text, says in (
        ("1=0,0,1.5,1", "outside the picture"), ("1=0.5,0,0.5,1", "empty"), ("1=nan,0,1,1", "outside"),
        ("left=0,0,1,1", "a prompt's number"), ("0=0,0,1,1", "a prompt's number"), ("1=", "and an area"),
        ("1=a.png | 1=b.png", "two regions"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            PaintSettings.parse({"regions": text})
