"""Codebooks: k-means, the learned one, replaced codes, and the nearest code."""

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


def test_psnr_grows_with_the_number_of_centres_and_one_per_patch_is_exact(oranges: Tensor) -> None:
    quality = [codebook.patch_codebook(oranges, k).psnr for k in (1, 4, 16, 64)]
    assert quality == sorted(quality) and quality[0] < quality[-1] - 6
    exact = codebook.patch_codebook(oranges, 144)
    assert torch.allclose(exact.picture, oranges[0], atol=1e-5) and exact.psnr > 60


def test_the_atlas_contains_each_code_once_and_crops_show_its_uses(fruit: Tensor, vqgan: VQGAN) -> None:
    book = CodebookFigure(vqgan, fruit)
    assert sorted(book.order.tolist()) == list(range(1024))
    assert book.picture.size == (book.columns * vqgan.f, book.rows * vqgan.f)
    assert int(book.counts.sum()) == 8 * 144
    code = int(book.counts.argmax())
    assert book.code_at(*book.position_of(code)) == code
    crops = find_patches(code, fruit, book.codes, margin=0)
    assert len(crops) == int(book.counts[code])
    b, row, column = (book.codes == code).nonzero()[0].tolist()
    assert torch.equal(crops[0], fruit[b, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8])
    assert find_patches(code, fruit, book.codes).shape[2:] == (24, 24)
    unused = int((book.counts == 0).nonzero()[0])
    assert len(find_patches(unused, fruit, book.codes)) == 0
    assert "<svg" in book(*book.position_of(unused)).svg() and "<svg" in book(*book.position_of(code)).svg()


def test_sorting_by_colour_starts_with_the_darkest() -> None:
    greys = torch.tensor([0.5, -1.0, 1.0, 0.0]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    assert sort_by_colour(greys, 1).tolist() == [1, 3, 0, 2]


def test_swapping_replaces_a_code_everywhere_or_in_one_cell(oranges: Tensor, vqgan: VQGAN) -> None:
    figure = CodeSwapFigure(oranges, vqgan)
    old = int(figure.codes[0, 0])
    new = (old + 1) % 1024
    everywhere = figure.swapped(0, 0, new)
    assert torch.equal(everywhere != figure.codes, figure.codes == old)
    one_cell = figure.swapped(0, 0, new, everywhere=False)
    assert int((one_cell != figure.codes).sum()) == 1
    assert torch.equal(figure.codes, vqgan.encode(oranges)[0])  # the codes of the picture itself are unchanged
    assert "<svg" in figure(0, 0, new, False).svg()


def test_the_straight_through_gradient_equals_the_gradient_at_the_code() -> None:
    example = straight_through_example(torch.tensor([-0.3, 0.2]), torch.tensor([1.9, 1.8]))
    distances = (CODEBOOK_2D - torch.tensor([-0.3, 0.2])).norm(dim=1)
    assert example.code == int(distances.argmin())
    assert torch.equal(example.z_q, CODEBOOK_2D[example.code])
    assert torch.equal(example.straight_through_gradient, example.code_gradient)
    assert torch.allclose(example.code_gradient, example.z_q - torch.tensor([1.9, 1.8]))
    # the choice itself is piecewise constant: a small step selects the same code
    assert straight_through_example(torch.tensor([-0.301, 0.2]), torch.zeros(2)).code == example.code
    assert not example.true_gradient.any()


@pytest.mark.parametrize("name", ["kmeans", "atlas", "swap", "nearest"])
def test_a_slider_or_click_redraws_the_figure(name: str, oranges: Tensor, fruit: Tensor, vqgan: VQGAN) -> None:
    box = {
        "kmeans": lambda: codebook.kmeans_codebook(oranges, vqgan),
        "atlas": lambda: codebook_atlas(vqgan, fruit),
        "swap": lambda: swap_code(oranges, vqgan),
        "nearest": codebook.choose_nearest,
    }[name]()
    output = box.children[-1]
    before = output.value
    assert before.startswith("<svg")
    picture = getattr(box, "picture_widget", None)
    if picture is None:
        slider = box.children[0]
        slider.value += 2 if slider.value + 2 <= slider.max else -2
    else:  # a click, as the browser reports it
        row, column = picture.cell
        picture.cell = [(row + 5) % picture.rows, (column + 3) % picture.columns]
        sliders = box.children[0].children[1].children
        assert [sliders[0].value, sliders[1].value] == picture.cell
        before, sliders[0].value = output.value, (picture.cell[0] + 1) % picture.rows
        assert picture.cell[0] == sliders[0].value  # a slider moves the frame on the picture
    assert output.value.startswith("<svg") and output.value != before
