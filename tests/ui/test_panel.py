from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.ui.paint_panel import PaintPanel


@pytest.fixture
def make(counting_job: Any) -> Any:
    def make(settings: PaintSettings) -> Any:
        if settings.size[0] % 8:
            raise UserError(f"width {settings.size[0]} is not a multiple of 8; the nearest is 96")
        job = counting_job(settings.iterations)
        job.settings = settings.model_copy(update={"seed": 5 if settings.seed is None else settings.seed})
        job.picture = job.preview
        job.record = lambda: {"settings": job.settings.model_dump(mode="json")}
        return job

    return make


def shown(panel: PaintPanel) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(panel.runner.picture.value)), dtype=np.int16)


def test_run_saves_the_picture_and_never_overwrites_one(make: Any, tmp_path: Path) -> None:
    panel = PaintPanel(PaintSettings(prompt="A red apple", iterations=3), folder=tmp_path / "pictures", make=make)
    assert "press Paint" in panel.runner.status.value
    assert isinstance(asyncio.run(panel.run()), Image.Image)
    asyncio.run(panel.run())
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["a-red-apple-5-2.png", "a-red-apple-5.png"]
    assert read_record(tmp_path / "pictures" / names[0])["settings"]["prompt"] == "A red apple"
    assert names[0] in panel.runner.status.value


def test_the_button_does_what_run_does(make: Any, tmp_path: Path) -> None:
    panel = PaintPanel(PaintSettings(iterations=3), folder=tmp_path, make=make)
    panel.form.inputs("prompt")[0].value = "a boat"
    panel.runner.buttons.children[0].click()
    assert panel.runner.wait(20)
    assert [path.name for path in tmp_path.glob("*.png")] == ["a-boat-5.png"]


def test_a_quick_run_is_small_and_noted(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    panel = PaintPanel(PaintSettings(iterations=500), folder=tmp_path, make=make)
    assert any("Quick run" in getattr(child, "value", "") for child in panel.view.children)
    asyncio.run(panel.run())
    assert panel.runner.job is not None and panel.runner.job.total < 500
    assert panel.form.settings().iterations == 500


def test_an_empty_panel_shows_the_last_picture_of_its_folder(make: Any, tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 32), "teal")
    boat = save_png(tmp_path / "boat-1.png", picture, {"settings": {"prompt": "a <i>boat</i>"}})
    apple = save_png(tmp_path / "apple-1.png", Image.new("RGB", (32, 32)), {"settings": {"prompt": "an apple"}})
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for time, path in enumerate((apple, boat, tmp_path / "broken.png")):
        os.utime(path, (time, time))
    panel = PaintPanel(folder=tmp_path, make=make)
    assert abs(shown(panel) - np.asarray(picture)).max() < 8
    assert "a &lt;i&gt;boat&lt;/i&gt;" in panel.runner.status.value


def test_invalid_settings_are_marked_and_start_nothing(make: Any, tmp_path: Path) -> None:
    panel = PaintPanel(folder=tmp_path, make=make)
    panel.form.inputs("prompt")[0].value = "  "
    panel.runner.buttons.children[0].click()
    assert panel.runner.wait(20) and panel.runner.job is None
    assert "vqtools-error" in panel.runner.status.value
    assert "vqtools-wrong" in panel.form.row("prompt")._dom_classes


def test_a_size_that_the_networks_refuse_is_marked(make: Any, tmp_path: Path) -> None:
    panel = PaintPanel(folder=tmp_path, make=make)
    panel.form.inputs("size")[0].value = 101
    panel.runner.buttons.children[0].click()
    assert panel.runner.wait(20)
    assert "vqtools-wrong" in panel.form.row("size")._dom_classes
    panel.form.inputs("size")[0].value = 96
    assert "vqtools-wrong" not in panel.form.row("size")._dom_classes


def test_a_preset_sets_fields_that_can_still_be_changed(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_QUICK", "1")  # nothing is measured
    panel = PaintPanel(folder=tmp_path, make=make)
    panel.form.inputs("preset")[0].value = "best"
    assert PRESETS["best"].items() <= panel.form.settings().model_dump().items()
    panel.form.inputs("iterations")[0].value = 11
    assert (panel.form.settings().iterations, panel.form.settings().preset) == (11, "best")


def test_a_field_changed_during_a_run_is_noted_for_the_next(counting_job: Any, make: Any, tmp_path: Path) -> None:
    panel = PaintPanel(PaintSettings(iterations=100_000), folder=tmp_path, make=make)
    panel.runner.start()
    panel.form.inputs("size")[0].value = 64
    assert panel.form.row("size").children[-1].value == "from the next run"
    panel.runner.stop()
    assert panel.runner.wait(20)
    panel.form.inputs("iterations")[0].value = 1
    panel.runner.start()
    assert panel.form.row("size").children[-1].value == ""
    assert panel.runner.wait(20)
