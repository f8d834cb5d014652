"""Presets in the panel: measured once, in a thread, and never over a field that a person has edited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.pipelines import presets
from vqtools.pipelines.presets import StepTimeModel, measure_presets
from vqtools.ui.job_worker import job_lock
from vqtools.ui.paint_panel import PaintPanel
from vqtools.weights.load import load_vqgan


class Benchmark:
    """A benchmark that waits until its gate is open."""

    def __init__(self) -> None:
        self.gate, self.begun, self.count, self.alone = threading.Event(), threading.Event(), 0, False
        self.gate.set()

    def __call__(self, settings: PaintSettings, machine: Any) -> StepTimeModel:
        self.count += 1
        self.alone = job_lock.locked()
        self.begun.set()
        assert self.gate.wait(20)
        return StepTimeModel(0.05, 0.0, 0.01, 9, "a machine")  # size costs nothing: as large as the network can fill


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Benchmark:
    one = Benchmark()
    monkeypatch.setattr(presets, "run_benchmark", one)
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VQTOOLS_QUICK", raising=False)
    return one


@pytest.fixture
def panel(trial: Benchmark, counting_job: Any, tmp_path: Path) -> Iterator[PaintPanel]:
    def make(settings: PaintSettings) -> Any:
        job = counting_job(settings.iterations, held=True)
        job.settings, job.picture, job.record = settings, job.preview, dict
        jobs.append(job)
        return job

    jobs: list[Any] = []
    panel = PaintPanel(PaintSettings(size=(64, 64)), folder=tmp_path / "pictures", make=make)
    yield panel
    trial.gate.set()
    panel.runner.stop()
    for job in jobs:
        job.gate.release(1000)
    assert panel.runner.wait(20)
    panel.preset_sizes.wait(20)


def choose(panel: PaintPanel, name: str) -> None:
    panel.form.inputs("preset")[0].value = name


def note(panel: PaintPanel) -> str:
    return str(panel.form.row("preset").children[-1].value)


def test_a_preset_sets_its_size_and_is_described_in_one_line(panel: PaintPanel, trial: Benchmark) -> None:
    choose(panel, "best")
    panel.preset_sizes.wait(20)
    wanted = measure_presets(panel.form.settings())[1]["best"]
    assert wanted.size == (384, 384)
    assert wanted.fields.items() <= panel.form.settings().model_dump().items()
    assert note(panel) == "best: 384x384, 400 iterations, 24 cutouts, about 2 min"
    choose(panel, "normal")
    panel.preset_sizes.wait(20)
    assert panel.form.settings().size == (192, 192)
    assert note(panel) == "normal: 192x192, 100 iterations, 8 cutouts, about 13 s"
    assert trial.count == 1  # it is remembered


def test_fields_edited_during_the_measurement_keep_their_values(panel: PaintPanel, trial: Benchmark) -> None:
    trial.gate.clear()
    started = time.monotonic()
    choose(panel, "best")
    assert time.monotonic() - started < 1
    assert panel.form.settings().iterations == PRESETS["best"]["iterations"]  # these need no trial
    assert trial.begun.wait(20) and trial.alone and "10 seconds" in note(panel)
    panel.form.inputs("size")[0].value = 128
    panel.form.inputs("cutouts")[0].value = 5
    trial.gate.set()
    panel.preset_sizes.wait(20)
    settings = panel.form.settings()
    assert (settings.size, settings.cutouts, settings.iterations) == ((128, 64), 5, 400)
    assert note(panel).startswith("best: ")


def test_of_two_choices_the_last_applies(panel: PaintPanel, trial: Benchmark) -> None:
    trial.gate.clear()
    choose(panel, "best")
    assert trial.begun.wait(20)
    first = panel.preset_sizes._thread
    choose(panel, "better")
    trial.gate.set()
    panel.preset_sizes.wait(20)
    assert first is not None
    first.join(20)
    assert panel.form.settings().size == (288, 288) and note(panel).startswith("better: ")


def test_no_trial_disturbs_a_run(panel: PaintPanel, trial: Benchmark) -> None:
    panel.runner.start()
    choose(panel, "better")
    assert not trial.begun.wait(0.3) and panel.form.settings().size == (64, 64)
    panel.runner.stop()
    panel.runner.job.gate.release(1000)  # type: ignore[union-attr]
    panel.preset_sizes.wait(20)
    assert trial.count == 1 and panel.form.settings().size == (288, 288)


def test_choices_at_one_time_leave_the_networks_whole(panel: PaintPanel, trial: Benchmark) -> None:
    threads = []
    for name in ("draft", "best", "better", "normal") * 2:
        choose(panel, name)
        threads.append(panel.preset_sizes._thread)
    for thread in threads:
        assert thread is not None
        thread.join(20)
    vqgan = load_vqgan("starter")
    assert not any(tensor.is_meta for tensor in (*vqgan.parameters(), *vqgan.buffers()))
    assert panel.form.settings().size == (192, 192)


def test_a_quick_run_measures_nothing(panel: PaintPanel, trial: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    choose(panel, "best")
    panel.preset_sizes.wait(20)
    assert panel.form.settings().iterations == 400 and panel.form.settings().size == (64, 64)
    assert not trial.count and not note(panel)


def test_a_missing_network_is_noted_under_the_preset(panel: PaintPanel, trial: Benchmark) -> None:
    panel.form.inputs("vqgan")[0].value = "nowhere"
    choose(panel, "draft")
    panel.preset_sizes.wait(20)
    assert "no vqgan named" in note(panel) and not trial.count
    assert panel.form.settings().iterations == 30
