"""The animation panel: curves to drag, a dry run, a forecast, rewinding, changes during a run."""

from __future__ import annotations

import importlib.util
import io
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.ui.conftest import wait_until
from vqtools.animation import test_card
from vqtools.animation.project import Project
from vqtools.animation.settings import AnimateSettings
from vqtools.ui import curve_editor
from vqtools.ui.animate_panel import AnimatePanel


def small_networks() -> Any:
    path = Path(__file__).parents[1] / "animation" / "conftest.py"
    spec = importlib.util.spec_from_file_location("small_animation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Films:
    """Makes small animators whose frames wait until ``gate`` is released."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.small, self.gate, self.count = folder, small_networks(), threading.Semaphore(0), 0

    def __call__(self, settings: AnimateSettings) -> Any:
        self.count += 1
        project = Project.create(self.folder / "film", {"settings": settings.model_dump(mode="json")})
        first = self.small.First(settings)
        job = self.small.Animator(settings, first, project, seed=5)
        paint = job._paint

        def held(frame: Any) -> Any:
            assert self.gate.acquire(timeout=30)
            return paint(frame)

        job._paint = held
        return job


@pytest.fixture
def films(tmp_path: Path) -> Films:
    return Films(tmp_path)


@pytest.fixture
def panel(films: Films, tmp_path: Path) -> Iterator[AnimatePanel]:
    settings = AnimateSettings(
        prompt="a red apple", size=(24, 16), iterations=2, cutouts=2, frames=6, iterations_per_frame="1", seed=5
    )
    panel = AnimatePanel(settings, folder=tmp_path / "animations", make=films)
    yield panel
    films.gate.release(99)
    panel.runner.stop()
    panel.runner.wait(20)


def request_edit(panel: AnimatePanel, *request: Any) -> None:
    panel.curves.editor.edit_request = [*request, time.monotonic()]


def test_a_dragged_point_changes_the_text_in_the_form(panel: AnimatePanel) -> None:
    assert panel.curves.editor.points == [[0, 1.02, True]]
    request_edit(panel, "add", -1, 4, 1.1)
    request_edit(panel, "move", 0, 0, 0.98)
    assert panel.form.values()["zoom"] == "0:(0.98), 4:(1.1)"
    assert panel.curves.editor.points == [[0, 0.98, True], [4, 1.1, True]]
    assert panel.curves.editor.line[2] == [2.0, pytest.approx(1.04)]
    assert "zoom" in panel.curves.overview.value and "angle" not in panel.curves.overview.value
    request_edit(panel, "remove", 1, 4, 1.1)
    assert panel.form.settings().zoom == "(0.98)"


def test_a_formula_is_drawn_but_cannot_be_dragged(panel: AnimatePanel) -> None:
    panel.form.inputs("angle")[0].value = "2*sin(t)"
    panel.curves.curve_menu.value = "angle"
    assert panel.curves.editor.points == [[0, 0.0, False]]
    assert panel.curves.editor.line[1] == [1.0, pytest.approx(2 * np.sin(1))]
    request_edit(panel, "move", 0, 3, 1.0)
    assert "is a formula" in panel.curves.message.value and panel.form.values()["angle"] == "2*sin(t)"


def test_without_anywidget_points_are_set_by_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(curve_editor, "_editor_class", lambda: None)
    panel = AnimatePanel(AnimateSettings(frames=6), folder=tmp_path)
    panel.curves.frame.value, panel.curves.value.value = 3, 1.5
    panel.curves.buttons["put"].click()
    assert panel.form.values()["zoom"] == "0:(1.02), 3:(1.5)"
    assert panel.curves.editor.value.count("<circle") == 2
    panel.curves.buttons["take"].click()
    assert panel.form.values()["zoom"] == "(1.02)"
    panel.curves.buttons["take"].click()
    assert "there is no point at frame 3" in panel.curves.message.value


def test_a_motion_preset_sets_its_curves(panel: AnimatePanel) -> None:
    panel.form.inputs("motion")[0].value = "tunnel"
    assert panel.form.values()["zoom"] == "1.035" and "sin" in panel.form.values()["angle"]
    assert "angle" in panel.curves.overview.value


def test_the_dry_run_needs_no_network(panel: AnimatePanel, films: Films) -> None:
    panel.dry_run().join(30)
    (shown,) = panel.video.outputs
    assert "data:video/mp4;base64," in shown["data"]["text/html"] and not films.count
    with av.open(io.BytesIO(test_card.test_card(panel.form.settings()).data)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 6


def test_a_dry_run_with_sound_shows_its_waveform_and_curves(panel: AnimatePanel, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.sin(np.arange(8000) / 8000 * 440 * 6.283) * 20000).astype("<i2").tobytes())
    panel.form.set(audio=str(tmp_path / "tone.wav"), zoom="1+0.1*mid")
    panel.dry_run().join(60)
    assert panel.waveform.layout.display == "" and bytes(panel.waveform.value[:4]) == b"\x89PNG"
    assert "♪ mid" in panel.curves.overview.value
    assert max(value for _, value in panel.curves.editor.line) > 1.05


def test_the_forecast_waits_until_resume(panel: AnimatePanel, films: Films) -> None:
    panel.forecast()
    wait_until(lambda: panel.runner.job is not None and "Paused at 0" in panel.runner.status.value)
    assert panel.runner.job is not None and panel.runner.job.position == 0
    films.gate.release(99)
    panel.runner.pause()
    assert panel.runner.wait(30)
    assert "saved as" in panel.runner.status.value


def test_a_forecast_that_is_stopped_leaves_no_folder(panel: AnimatePanel, films: Films) -> None:
    panel.forecast()
    wait_until(lambda: panel.runner.job is not None and "Paused at 0" in panel.runner.status.value)
    panel.form.inputs("prompt")[0].value = "the blue sea"  # applies at once to the waiting job
    wait_until(lambda: panel.runner.job is not None and panel.runner.job.settings.prompt == "the blue sea")
    panel.runner.stop()
    assert panel.runner.wait(30)
    assert panel.runner.job is None and not list(films.folder.iterdir())
    films.gate.release(99)
    panel.runner.start()
    assert panel.runner.wait(30)
    assert "saved as" in panel.runner.status.value and panel.film == films.folder / "film" / "film.mp4"


def test_the_forecast_of_the_panels_own_job_writes_nothing(tmp_path: Path) -> None:
    settings = AnimateSettings(prompt="a red apple", size=(64, 64), iterations=2, cutouts=2, grids=2, frames=3, seed=5)
    panel = AnimatePanel(settings, folder=tmp_path / "animations")
    panel.forecast()
    wait_until(lambda: panel.runner.job is not None and "Paused at" in panel.runner.status.value)
    assert "3 frames, about" in panel.note.value
    assert not list((tmp_path / "animations").glob("*"))  # also where the page is closed, or the kernel killed
    panel.runner.pause()
    assert panel.runner.wait(60)
    assert [path.name for path in (tmp_path / "animations").iterdir()] == ["a-red-apple-5"]


def test_a_run_stopped_before_its_first_frame_leaves_no_folder_and_resumes(panel: AnimatePanel, films: Films) -> None:
    panel.forecast()
    wait_until(lambda: panel.runner.job is not None and "Paused at 0" in panel.runner.status.value)
    panel.runner.step()
    wait_until(lambda: getattr(panel.runner.job, "position", 0) == 1)
    panel.runner.stop()
    assert panel.runner.wait(30)
    assert "no frame is finished yet" in panel.runner.status.value and not list(films.folder.iterdir())
    films.gate.release(99)
    panel.runner.pause()
    assert panel.runner.wait(30)
    assert "saved as" in panel.runner.status.value and panel.film == films.folder / "film" / "film.mp4"


def test_a_locked_folder_is_not_continued(panel: AnimatePanel, films: Films) -> None:
    films.gate.release(3)
    panel.runner.start()
    wait_until(lambda: getattr(panel.runner.job, "done", 0) == 3)
    panel.runner.stop()
    films.gate.release()
    assert panel.runner.wait(30)
    job: Any = panel.runner.job
    done = job.done
    with Project.open(job.project.folder).locked():
        panel.runner.pause()
        assert panel.runner.wait(30)
        assert "film&#x27; is in use by another run" in panel.runner.status.value and job.done == done
        panel.throw_away(1)
        assert panel.runner.wait(30)
        assert "is in use by another run" in panel.runner.status.value and job.done == done
    films.gate.release(99)
    panel.runner.pause()
    assert panel.runner.wait(30)
    assert job.done == 6 and "saved as" in panel.runner.status.value


def test_rewound_frames_are_made_again_with_changed_settings(panel: AnimatePanel, films: Films) -> None:
    films.gate.release(4)
    panel.runner.start()
    wait_until(lambda: getattr(panel.runner.job, "done", 0) == 4)
    panel.runner.stop()
    films.gate.release()
    assert panel.runner.wait(30)
    job: Any = panel.runner.job
    before = [np.asarray(Image.open(path)) for path in sorted(job.project.frames.glob("*.png"))]
    panel.throw_away(2)
    assert panel.runner.wait(30)
    assert job.done == len(before) - 2 and "frames are left" in panel.runner.status.value
    panel.form.inputs("prompt")[0].value = "the blue sea"
    panel.form.inputs("frame_learning_rate")[0].value = 5.0
    films.gate.release(99)
    panel.runner.pause()
    assert panel.runner.wait(30)
    assert job.done == 6 and job.settings.prompt == "the blue sea"
    after = [np.asarray(Image.open(path)) for path in sorted(job.project.frames.glob("*.png"))]
    kept = len(before) - 2
    assert all(np.array_equal(a, b) for a, b in zip(before[:kept], after[:kept], strict=True))
    assert not np.array_equal(before[-1], after[len(before) - 1])
    with av.open(str(panel.film)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 6


def test_a_rewound_octave_zoom_takes_other_prompts(films: Films, tmp_path: Path) -> None:
    def make(settings: AnimateSettings) -> Any:
        def begin(prompt: str, seed: int, compose: Any) -> Any:
            return films.small.First(settings.model_copy(update={"prompt": prompt, "seed": seed}), compose(None))

        project = Project.create(films.folder / "film", {"settings": settings.model_dump(mode="json")})
        return films.small.OctaveZoom(settings, begin, project, seed=5)

    settings = AnimateSettings(
        prompt="a red apple", size=(32, 16), iterations=2, cutouts=2, frames=8, zoom="1.4", octave_zoom=True, seed=5
    )
    panel = AnimatePanel(settings, folder=tmp_path / "animations", make=make)
    panel.runner.start()
    assert panel.runner.wait(30)
    job: Any = panel.runner.job
    before = [path.read_bytes() for path in sorted(job.project.frames.glob("*.png"))]
    panel.throw_away(5)
    assert panel.runner.wait(30)
    assert "3 frames are left; 2 of 5 pictures will be painted again" in panel.runner.status.value
    panel.form.inputs("prompt")[0].value = "the blue sea"
    panel.form.inputs("zoom")[0].value = "1.1"  # from the next run
    panel.runner.pause()
    assert panel.runner.wait(30)
    assert job.settings.prompt == "the blue sea" and job.settings.zoom == "1.4" and job.done == 8
    after = [path.read_bytes() for path in sorted(job.project.frames.glob("*.png"))]
    assert after[:3] == before[:3] and all(a != b for a, b in zip(after[3:], before[3:], strict=True))


def test_a_field_changed_during_a_run_applies_from_the_next_frame(panel: AnimatePanel, films: Films) -> None:
    films.gate.release(2)
    panel.runner.start()
    wait_until(lambda: getattr(panel.runner.job, "done", 0) == 2)
    panel.form.inputs("prompt")[0].value = "the blue sea"
    panel.form.inputs("frames")[0].value = 50
    films.gate.release(99)
    assert panel.runner.wait(30)
    job: Any = panel.runner.job
    assert job.settings.prompt == "the blue sea" and job.done == 6
