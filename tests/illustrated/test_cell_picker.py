"""Picking a cell of a picture; clicks are tested with the codebook's figures."""

from __future__ import annotations

import pytest
from torch import Tensor

from vqtools.illustrated import cell_picker
from vqtools.illustrated.cell_picker import pick_cell
from vqtools.illustrated.style import new_figure, svg_figure


def test_without_anywidget_only_the_sliders_are_shown(monkeypatch: pytest.MonkeyPatch, oranges: Tensor) -> None:
    monkeypatch.setattr(cell_picker, "_widget_class", lambda: None)
    box = pick_cell(lambda row, column: svg_figure(lambda: new_figure(1, 1))(), oranges, 12, 12, (3, 4))
    assert [child.value for child in box.children[:2]] == [3, 4]
