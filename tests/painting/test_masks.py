"""Masks, protected areas and repainting."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from vqtools.painting.masks import Mask, bounding_box, covered_cells
from vqtools.painting.painter import Painter

Make = Callable[..., Painter]
LEFT = (0, 0, 12, 16)


def test_equal_areas_from_different_sources_are_equal_masks() -> None:
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


def test_a_mask_survives_its_png_and_is_small() -> None:
    y, x = np.mgrid[:1088, :1920]
    mask = Mask.from_source(((x - 700) ** 2 + (y - 400) ** 2 < 300**2).astype(float), (1920, 1088))
    assert Mask.from_png(mask.png) == mask
    assert len(mask.png) < 4000 and max(Image.open(io.BytesIO(mask.png)).size) == 512
    assert abs(float(mask.at_size(1088, 1920).mean()) - np.pi * 300**2 / 1920 / 1088) < 0.002


def test_bounding_boxes_and_covered_cells() -> None:
    mask = Mask.from_source((4, 6, 10, 12), (24, 16)).at_size(16, 24)
    assert bounding_box(mask) == (slice(6, 12), slice(4, 10))
    assert covered_cells(mask, 8, 12).nonzero().tolist() == [[r, c] for r in (3, 4, 5) for c in (2, 3, 4)]
    thin = torch.zeros(16, 24)
    thin[3, 5] = 0.2
    assert bounding_box(thin) == (slice(3, 4), slice(5, 6))


def test_a_protected_area_stays(painter: Make) -> None:
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
def test_repainting_changes_only_the_masked_area(painter: Make, fresh: bool) -> None:
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
