"""Grids of candidates and of several settings, and runs that continue from them."""

from __future__ import annotations

from typing import Any

from tests.ui.conftest import wait_until_idle
from vqtools.media.png_record import read_record
from vqtools.painting.settings import PaintSettings
from vqtools.ui.paint_panel import PaintPanel


def test_candidates_are_chosen_by_a_click_and_continued(panel: PaintPanel, make_painting: Any) -> None:
    panel.make_job = lambda settings, **more: make_painting(settings.model_copy(update={"iterations": 3}), **more)
    panel.candidates(4)
    wait_until_idle(panel)
    sheet = panel.last_grid
    assert sheet is not None and panel.runner.job is sheet and len(sheet.finished) == 4 and panel.canvas.pick
    assert read_record(panel.saved or "")["activity"] == "drafts"
    left, top, right, bottom = sheet.boxes()[2]
    panel.grid_picker.clicked((left + right) / 2, (top + bottom) / 2, False)
    assert panel.grid_picker.first_choice.value == 2 and panel.canvas.frames == [[left, top, right, bottom]]
    panel.grid_picker.clicked(0.5 * left, 0, False)  # between the paintings
    assert panel.grid_picker.first_choice.value == 2
    panel.grid_picker.continue_button.click()
    wait_until_idle(panel)
    assert panel.session is not None and panel.session.settings.seed == 7 and panel.session.position == 6
    assert not panel.canvas.pick and panel.canvas.frames == []
    panel.grid_picker.back_button.click()
    assert panel.runner.job is sheet and panel.canvas.pick
    assert panel.grid_picker.cross_button.disabled
    again = PaintPanel(PaintSettings(), folder=panel.folder, make=make_painting)
    assert again.last_grid is sheet and again.grid_picker.continue_button in again.grid_picker.view.children


def test_prompts_and_seeds_are_combined_each_with_each(panel: PaintPanel) -> None:
    panel.grid_form.prompts.value, panel.grid_form.seeds.value = "a tree\na <b>boat</b>", "1 2 3"
    assert panel.grid_form.vary() == {"prompt": ["a tree", "a <b>boat</b>"], "seed": [1, 2, 3]}
    panel.grid_form.button.click()
    wait_until_idle(panel)
    assert panel.last_grid is not None and len(panel.last_grid.finished) == 6
    panel.grid_form.seeds.value = "1 two"
    panel.grid_form.button.click()
    assert "seed &#x27;two&#x27;" in panel.runner.status.value
    panel.grid_form._load_file("list.txt", b"# mine\na cat\n\na dog\n")
    assert panel.grid_form.prompts.value == "a cat\na dog"
