"""Codebooks: by k-means, learned, changed by hand, and the choice of the nearest code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqtools.illustrated import codebook
from vqtools.illustrated.codebook import (
    CODEBOOK_2D,
    CodebookFigure,
    CodeSwapFigure,
    codebook_atlas,
    find_patches,
    sort_by_colour,
    straight_through_example,
    swap_code,
)
from vqtools.models.vqgan import VQGAN


def test_more_entries_rebuild_the_picture_better_and_one_a_patch_exactly(oranges: Tensor) -> None:
    quality = [codebook.patch_codebook(oranges, k).psnr for k in (1, 4, 16, 64)]
    assert quality == sorted(quality) and quality[0] < quality[-1] - 6
    exact = codebook.patch_codebook(oranges, 144)
    assert torch.allclose(exact.picture, oranges[0], atol=1e-5) and exact.psnr > 60


def test_the_atlas_shows_every_code_once_and_its_patches_hold_it(fruit: Tensor, vqgan: VQGAN) -> None:
    book = CodebookFigure(vqgan, fruit)
    assert sorted(book.order.tolist()) == list(range(1024))
    assert book.picture.size == (book.columns * vqgan.f, book.rows * vqgan.f)
    assert int(book.uses.sum()) == 8 * 144
    code = int(book.uses.argmax())
    assert book.code_at(*book.place(code)) == code
    found = find_patches(code, fruit, book.codes, margin=0)
    assert len(found) == int(book.uses[code])
    b, row, column = (book.codes == code).nonzero()[0].tolist()
    assert torch.equal(found[0], fruit[b, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8])
    assert find_patches(code, fruit, book.codes).shape[2:] == (24, 24)
    unused = int((book.uses == 0).nonzero()[0])
    assert len(find_patches(unused, fruit, book.codes)) == 0
    assert "<svg" in book(*book.place(unused)).svg() and "<svg" in book(*book.place(code)).svg()


def test_by_colour_goes_from_dark_to_light() -> None:
    greys = torch.tensor([0.5, -1.0, 1.0, 0.0]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    assert sort_by_colour(greys, 1).tolist() == [1, 3, 0, 2]


def test_a_swap_changes_the_named_code_and_nothing_far_away(oranges: Tensor, vqgan: VQGAN) -> None:
    changes = CodeSwapFigure(oranges, vqgan)
    old = int(changes.codes[0, 0])
    new = (old + 1) % 1024
    everywhere = changes.swapped(0, 0, new)
    assert torch.equal(everywhere != changes.codes, changes.codes == old)
    once = changes.swapped(0, 0, new, everywhere=False)
    assert int((once != changes.codes).sum()) == 1
    assert torch.equal(changes.codes, vqgan.encode(oranges)[0])  # the picture's own are left alone
    assert "<svg" in changes(0, 0, new, False).svg()


def test_the_straight_through_gradient_is_the_identitys() -> None:
    found = straight_through_example(torch.tensor([-0.3, 0.2]), torch.tensor([1.9, 1.8]))
    distances = (CODEBOOK_2D - torch.tensor([-0.3, 0.2])).norm(dim=1)
    assert found.code == int(distances.argmin())
    assert torch.equal(found.chosen, CODEBOOK_2D[found.code])
    assert torch.equal(found.straight_through_gradient, found.code_gradient)
    assert torch.allclose(found.code_gradient, found.chosen - torch.tensor([1.9, 1.8]))
    # the choice itself is flat: a small step chooses the same code
    assert straight_through_example(torch.tensor([-0.301, 0.2]), torch.zeros(2)).code == found.code
    assert not found.true_gradient.any()


@pytest.mark.parametrize("name", ["kmeans", "atlas", "swap", "nearest"])
def test_moving_a_slider_redraws(name: str, oranges: Tensor, fruit: Tensor, vqgan: VQGAN) -> None:
    box = {
        "kmeans": lambda: codebook.kmeans_codebook(oranges, vqgan),
        "atlas": lambda: codebook_atlas(vqgan, fruit),
        "swap": lambda: swap_code(oranges, vqgan),
        "nearest": lambda: codebook.choose_nearest(),
    }[name]()
    place = box.children[-1]
    before = place.value
    assert before.startswith("<svg")
    surface = getattr(box, "surface", None)
    if surface is None:
        slider = box.children[0]
        slider.value += 2 if slider.value + 2 <= slider.max else -2
    else:  # a click, as the page sends it
        row, column = surface.cell
        surface.cell = [(row + 5) % surface.rows, (column + 3) % surface.columns]
        sliders = box.children[0].children[1].children
        assert [sliders[0].value, sliders[1].value] == surface.cell
        before, sliders[0].value = place.value, (surface.cell[0] + 1) % surface.rows
        assert surface.cell[0] == sliders[0].value  # and the sliders move the frame
    assert place.value.startswith("<svg") and place.value != before
