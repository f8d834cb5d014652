"""Small SVG plots."""

from __future__ import annotations

from vqtools.ui.plots import curve_svg


def test_a_curve_shows_its_last_value_and_omits_points_that_are_not_finite() -> None:
    text = curve_svg("<loss>", [(0, 1.0), (5, float("nan")), (10, 0.25)], width=100, height=46)
    assert "&lt;loss&gt; <b>0.25</b>" in text
    assert 'points="0.0,3.0 100.0,43.0"' in text
    assert curve_svg("empty", []) == ""
