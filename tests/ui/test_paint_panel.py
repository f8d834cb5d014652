"""Edits of a painting from its panel: during the run, undo, branches; by buttons and by methods."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ui.conftest import wait_until
from vqtools.media.png_record import read_record
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.ui.paint_panel import PaintPanel


class Studio:
    """Makes sessions whose steps wait until ``gate`` is released."""

    def __init__(self, make: Callable[[PaintSettings], PaintSession]) -> None:
        self.make, self.gate = make, threading.Semaphore(0)
        self.held_at = -1  # position at which a step waits

    def __call__(self, settings: PaintSettings) -> PaintSession:
        session = self.make(settings.model_copy(update={"seed": 5}))
        step = session.job.step

        def held() -> dict[str, float]:
            self.held_at = session.position
            assert self.gate.acquire(timeout=30)
            self.held_at = -1
            return step()

        session.job.step = held  # type: ignore[method-assign]
        return session


@pytest.fixture
def studio(make_session: Any) -> Studio:
    return Studio(make_session)


@pytest.fixture
def panel(studio: Studio, tmp_path: Path) -> Iterator[PaintPanel]:
    settings = PaintSettings(prompt="a red apple | <b>blur</b>:-0.5", size=(24, 16), iterations=20, cutouts=3, seed=5)
    panel = PaintPanel(settings, folder=tmp_path / "pictures", make=studio)
    yield panel
    panel.runner.stop()
    studio.gate.release(1000)
    assert panel.runner.wait(30)


def paint(panel: PaintPanel, studio: Studio, steps: int) -> None:
    """Make so many more steps; the next one waits."""
    before = panel.session.position if panel.session else 0
    if panel.runner.state == "idle":
        panel.runner.start()
    studio.gate.release(steps)
    wait_until(lambda: studio.held_at == before + steps)


def finish(panel: PaintPanel, studio: Studio) -> None:
    studio.gate.release(1000)
    assert panel.runner.wait(30)
    while studio.gate.acquire(blocking=False):
        pass


def finish_step(panel: PaintPanel, studio: Studio) -> None:
    """Let the present step end, so that queued actions run; the next step waits."""
    position = panel.session.position + 1 if panel.session else 1
    studio.gate.release()
    wait_until(lambda: studio.held_at == position or "Paused" in panel.runner.status.value, "for queued actions")


def button(panel: PaintPanel, name: str) -> Any:
    return panel.history_bar.buttons[name]


def note_of(panel: PaintPanel, name: str) -> str:
    note = panel.form.row(name).children[-1]
    return str(note.value) if note.layout.display != "none" else ""


def shown(panel: PaintPanel) -> Any:
    return np.asarray(Image.open(io.BytesIO(panel.runner.picture.value)), dtype=np.int16)


def as_shown(picture: Image.Image) -> Any:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=88, subsampling=0)
    return np.asarray(Image.open(data), dtype=np.int16)


def test_before_the_first_run_all_tools_are_disabled(panel: PaintPanel) -> None:
    assert all(button.disabled for button in panel.history_bar.buttons.values()) and panel.history_bar.slider.disabled
    panel.undo_button = button(panel, "undo")
    panel.undo_button.click()
    assert panel.runner.job is None


def test_a_field_changed_during_a_run_applies_from_the_next_step(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 3)
    panel.form.inputs("learning_rate")[0].value = 0.3
    assert note_of(panel, "learning_rate") == "from the next step on"
    finish_step(panel, studio)
    assert panel.session is not None and panel.session.settings.learning_rate == 0.3
    assert note_of(panel, "learning_rate") == "since step 4"
    panel.form.inputs("size")[0].value = 32
    assert note_of(panel, "size") == "from the next run"
    panel.form.inputs("learning_rate")[0].value = -1.0  # marked as wrong, and not applied
    finish_step(panel, studio)
    assert panel.session.settings.learning_rate == 0.3 and "more than 0" in note_of(panel, "learning_rate")
    panel.form.inputs("learning_rate")[0].value = 0.2
    finish(panel, studio)
    journal = read_record(panel.saved or "")["journal"]
    assert [(one["step"], one["settings"]) for one in journal] == [
        (4, {"learning_rate": 0.3}), (journal[1]["step"], {"learning_rate": 0.2}),
    ]  # fmt: skip


def test_a_preset_chosen_during_a_run_sets_its_fields(
    panel: PaintPanel, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(panel, studio, 2)
    monkeypatch.setenv("VQTOOLS_QUICK", "1")  # nothing is measured
    panel.form.inputs("preset")[0].value = "draft"
    finish_step(panel, studio)
    assert panel.session is not None
    assert (panel.session.settings.iterations, panel.session.settings.cutouts) == (30, 6)


def test_undo_and_redo_change_the_form_too(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 3)
    panel.form.inputs("prompt")[0].value = "a blue sea"
    finish_step(panel, studio)
    assert button(panel, "redo").disabled and not button(panel, "undo").disabled
    panel.runner.pause()
    finish_step(panel, studio)
    button(panel, "undo").click()
    wait_until(lambda: "undone" in panel.runner.status.value)
    assert panel.session is not None and panel.session.settings.prompt.startswith("a red apple")
    assert panel.form.settings().prompt.startswith("a red apple") and panel.session.position == 4
    button(panel, "redo").click()
    wait_until(lambda: "redone" in panel.runner.status.value)
    assert panel.form.settings().prompt == "a blue sea" == panel.session.settings.prompt


@pytest.mark.parametrize(("share", "seen"), [(0, 4), (1e9, 0)], ids=["every step remembered", "the first alone"])
def test_the_slider_pauses_the_run_and_a_branch_continues_from_its_step(
    panel: PaintPanel, studio: Studio, make_session: Any, monkeypatch: pytest.MonkeyPatch, share: float, seen: int
) -> None:
    monkeypatch.setattr(
        "vqtools.painting.snapshots._SNAPSHOT_TIME_DIVISOR", share
    )  # or the machine's load would choose what is remembered
    paint(panel, studio, 9)
    panel.history_bar.slider.value = 4
    studio.gate.release()
    wait_until(lambda: "this was step 4" in panel.runner.status.value)
    assert ("the picture of step 0" in panel.runner.status.value) == (seen == 0)
    plain = make_session(panel.session.initial_settings)  # type: ignore[union-attr]
    for _ in range(seen):
        plain.step()
    assert abs(shown(panel) - as_shown(plain.preview())).max() == 0
    for _ in range(4 - seen):
        plain.step()
    assert panel.runner.state == "paused" and panel.session is not None and panel.session.position == 10
    panel.form.inputs("prompt")[0].value = "a blue sea"
    assert note_of(panel, "prompt") == "from the branch on" and panel.session.settings.prompt != "a blue sea"
    for _ in range(4 - seen):  # they are made again
        studio.gate.release()
    button(panel, "branch").click()
    wait_until(lambda: "a new branch from step 4" in panel.runner.status.value)
    assert panel.runner.state == "working" and button(panel, "branch").disabled
    assert panel.session.settings.prompt == "a blue sea" == panel.form.settings().prompt
    finish(panel, studio)
    plain.edit({"prompt": "a blue sea"})
    while plain.position < plain.total:
        plain.step()
    assert Image.open(panel.saved or "").tobytes() == plain.picture().tobytes()
    assert panel.history_bar.slider.value == 20 and {x for x, _ in panel.history_bar._losses["a blue sea"]} == {
        *range(5, 21)
    }


def test_a_finished_run_can_be_extended_undone_and_branched(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 1)
    finish(panel, studio)
    assert panel.session is not None and panel.session.position == 20
    pause = next(one for one in panel.runner.buttons.children if getattr(one, "description", "") == "Pause")
    assert pause.disabled
    panel.form.inputs("iterations")[0].value = 23
    assert not pause.disabled and pause.description == "Resume"
    pause.click()
    finish(panel, studio)
    assert panel.session.position == 23 and "Done: 3" in panel.runner.status.value
    button(panel, "undo").click()
    assert panel.runner.wait(30) and panel.session.position == 20
    assert panel.form.settings().iterations == 20
    panel.history_bar.slider.value = 6
    assert panel.runner.wait(30) and not button(panel, "branch").disabled
    button(panel, "branch").click()
    finish(panel, studio)
    assert panel.session.position == 20 and len(list(panel.folder.glob("*.png"))) == 3


def test_save_during_a_run_does_not_end_it(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 3)
    button(panel, "save").click()
    finish_step(panel, studio)
    assert panel.saved is not None and read_record(panel.saved)["position"] == 4
    assert panel.runner.state == "working"


def test_losses_are_shown_by_prompt_and_escaped(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 5)
    finish(panel, studio)
    assert (
        "&lt;b&gt;blur&lt;/b&gt;" in panel.history_bar.losses.value and "<b>blur" not in panel.history_bar.losses.value
    )
    assert panel.history_bar.losses.value.count("<svg") == 2


def test_a_new_panel_for_the_same_folder_adopts_the_run(panel: PaintPanel, studio: Studio, tmp_path: Path) -> None:
    paint(panel, studio, 3)
    panel.view.close_all()
    again = PaintPanel(PaintSettings(prompt="something else"), folder=tmp_path / "pictures", make=studio)
    assert again.session is panel.session and again.runner.state == "working"
    assert again.form.settings().prompt.startswith("a red apple")
    again.form.inputs("prompt")[0].value = "a blue sea"
    finish_step(again, studio)
    assert again.session is not None and again.session.settings.prompt == "a blue sea"
    assert again.runner.picture.comm is not None and again.history_bar.slider.value >= 3
    again.runner.stop()
    finish(again, studio)
    assert again.saved is not None


def test_a_failing_edit_is_shown_and_the_run_goes_on(panel: PaintPanel, studio: Studio) -> None:
    paint(panel, studio, 2)
    panel.runner.queue_action(lambda session: session.set_region(7, (0, 0, 8, 8)))
    finish_step(panel, studio)
    assert "there is no prompt 8" in panel.runner.status.value and panel.runner.state == "working"
    finish(panel, studio)
    assert "Done" in panel.runner.status.value


def test_another_vqgan_deselects_the_starter_transformer(panel: PaintPanel) -> None:
    panel.form.inputs("vqgan")[0].value = "my-watercolours"
    assert panel.form.settings().transformer == "none" and "starter" in note_of(panel, "transformer")
    assert "random codes" in panel.runner.status.value
    panel.form.inputs("vqgan")[0].value = "starter"
    assert panel.form.settings().transformer == "starter" and note_of(panel, "transformer") == ""
