"""Settings and pictures of the page, and the widgets that its figures share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vqtools import illustrated
from vqtools.core.errors import UserError
from vqtools.illustrated import cell_picker, pictures
from vqtools.illustrated.cell_picker import pick_cell
from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.style import SVGFigure, new_figure, svg_figure, tile_images


def test_the_readers_picture_is_a_file_or_one_of_a_zip(tmp_path: Path, oranges: Tensor, fruit: Tensor) -> None:
    assert oranges.shape == (1, 3, 96, 96) and fruit.shape == (8, 3, 96, 96)
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "red.png")
    red = pictures.open_picture(str(tmp_path / "red.png"), 16)
    assert torch.equal(red, torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert len(pictures.open_pictures(str(tmp_path), 16)) == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [("absent.png", "not there"), ("absent.zip/one.png", "not there"), ("WATERCOLOURS/none.png", "holds no picture")],
)
def test_what_cannot_be_opened_is_said(path: str, words: str) -> None:
    from tests.illustrated.conftest import ZIP

    with pytest.raises(UserError, match=words):
        pictures.open_picture(path.replace("WATERCOLOURS", str(ZIP)), 32)


def test_every_figure_on_offer_is_there_and_the_notebook_shows_it() -> None:
    notebook = (Path(__file__).parents[2] / "notebooks" / "00_illustrated_vqgan.ipynb").read_text("utf-8")
    for name in illustrated.__all__:
        assert callable(getattr(illustrated, name))
        assert f"see.{name}(" in notebook, name


def test_a_fault_while_redrawing_stands_in_the_drawings_place() -> None:
    def draw(n: int) -> SVGFigure:
        if n == 2:
            raise ValueError("<b>two</b>")
        return svg_figure(lambda: new_figure(1, 1))()

    n = slider("n", 0, 3, 1)
    box = interactive_figure(draw, n=n)
    n.value = 2
    assert "&lt;b&gt;two" in box.children[-1].value
    n.value = 3
    assert box.children[-1].value.startswith("<svg")
    with pytest.raises(ValueError, match="two"):
        interactive_figure(draw, n=slider("n", 0, 3, 2))


def test_tiles_lie_apart_and_between_them_shines_the_page() -> None:
    sheet = tile_images(torch.ones(3, 3, 2, 2), columns=2, gap=1)
    assert sheet.shape == (5, 5, 4)
    assert sheet[0, 0].tolist() == [1, 1, 1, 1] and sheet[0, 2, 3] == 0 and sheet[4, 4, 3] == 0


def test_without_anywidget_the_sliders_are_left(monkeypatch: pytest.MonkeyPatch, oranges: Tensor) -> None:
    monkeypatch.setattr(cell_picker, "_widget_class", lambda: None)
    box = pick_cell(lambda row, column: svg_figure(lambda: new_figure(1, 1))(), oranges, 12, 12, (3, 4))
    assert [child.value for child in box.children[:2]] == [3, 4]
