"""Figures that are redrawn when a control changes."""

from __future__ import annotations

import pytest

from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.style import SVGFigure, new_figure, svg_figure


def test_an_error_while_redrawing_is_shown_in_place_of_the_figure() -> None:
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
