"""The brush: areas that are drawn on the picture become edits of the session."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.ui.conftest import EXAMPLE_SETTINGS, drawn_mask, paint_to_the_end, wait_until_idle
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.ui import canvas
from vqtools.ui.canvas import _PNG_DATA_URL, decode_mask
from vqtools.ui.paint_panel import PaintPanel


def test_the_brush_limits_a_prompt_to_an_area_and_undo_restores_the_state_before(panel: PaintPanel) -> None:
    assert panel.brush.toggle.disabled
    paint_to_the_end(panel)
    panel.brush.toggle.value = True
    assert panel.brush.view.layout.display == "" and panel.canvas.brush and panel.canvas.size == [24, 16]
    panel.brush.purpose.value = 1
    panel.canvas.mask = drawn_mask((0, 0, 256, 341))
    panel.brush.apply.click()
    wait_until_idle(panel)
    assert panel.session is not None and "“<b>blur</b>” applies only there" in html.unescape(panel.runner.status.value)
    covered = panel.session.masks["prompt 1"].at_size(16, 24) > 0.5
    assert covered[:, :11].all() and not covered[:, 13:].any()
    assert panel.session.edit_log.entries[-1]["do"] == "region" and panel.session.edit_log.entries[-1]["prompt"] == 1
    panel.brush.purpose.value = "protect"
    assert panel.canvas.mask == ""  # no area is protected yet
    panel.brush.purpose.value = 1
    alpha = np.asarray(decode_mask(panel.canvas.mask))[..., 3]
    assert alpha[:, :10].all() and not alpha[:, 14:].any()  # the area in effect can be drawn on further
    panel.history_bar.buttons["undo"].click()
    wait_until_idle(panel)
    assert panel.session.masks == {}


def test_repainting_extends_a_finished_run_and_changes_only_the_area(panel: PaintPanel) -> None:
    paint_to_the_end(panel)
    assert panel.session is not None
    before = panel.session.job.z_ema.clone()  # type: ignore[attr-defined]
    panel.brush.toggle.value = True
    panel.canvas.mask = drawn_mask((0, 0, 171, 341))
    panel.brush.apply.click()
    wait_until_idle(panel)
    assert panel.session.position == 16 and panel.form.settings().iterations == 16
    moved = (panel.session.job.z_ema - before).abs().amax((0, 1, 2))  # type: ignore[attr-defined]
    assert (moved[:4] > 0).all() and (moved[4:] == 0).all()
    panel.brush.remove_button.click()
    wait_until_idle(panel)
    assert panel.session.masks == {}


def test_an_empty_or_broken_mask_is_an_error_in_the_status_line(panel: PaintPanel) -> None:
    paint_to_the_end(panel)
    panel.brush.toggle.value = True
    panel.brush.apply.click()
    assert "nothing is drawn yet" in panel.runner.status.value
    panel.canvas.mask = _PNG_DATA_URL + "AAAA"
    panel.brush.apply.click()
    assert "no valid mask" in panel.runner.status.value and panel.session is not None and not panel.session.masks


def test_without_anywidget_the_area_is_a_box(
    monkeypatch: pytest.MonkeyPatch, make_painting: Callable[..., PaintSession], tmp_path: Path
) -> None:
    monkeypatch.setattr(canvas, "_canvas_class", lambda: None)
    panel = PaintPanel(PaintSettings.parse(EXAMPLE_SETTINGS), folder=tmp_path, make=make_painting)
    paint_to_the_end(panel)
    panel.brush.toggle.value = True
    panel.brush.purpose.value = "protect"
    panel.brush.x_range.value, panel.brush.y_range.value = (0, 50), (0, 100)
    panel.brush.apply.click()
    wait_until_idle(panel)
    assert panel.session is not None and float(panel.session.masks["protect"].at_size(16, 24).mean()) == pytest.approx(
        0.5
    )
