"""A preset in the panel means what it means on this machine: measured once, beside the panel, and never over a hand."""

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


class Trial:
    """A machine whose trial takes as long as its gate is shut."""

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
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trial:
    one = Trial()
    monkeypatch.setattr(presets, "run_benchmark", one)
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VQTOOLS_QUICK", raising=False)
    return one


@pytest.fixture
def panel(trial: Trial, counting_job: Any, tmp_path: Path) -> Iterator[PaintPanel]:
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


def test_a_preset_fills_in_what_it_means_here_and_says_so_in_a_line(panel: PaintPanel, trial: Trial) -> None:
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


def test_the_panel_hears_while_it_is_measured_and_what_a_hand_sets_stands(panel: PaintPanel, trial: Trial) -> None:
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


def test_of_two_choices_the_last_counts(panel: PaintPanel, trial: Trial) -> None:
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


def test_no_trial_disturbs_a_run(panel: PaintPanel, trial: Trial) -> None:
    panel.runner.start()
    choose(panel, "better")
    assert not trial.begun.wait(0.3) and panel.form.settings().size == (64, 64)
    panel.runner.stop()
    panel.runner.job.gate.release(1000)  # type: ignore[union-attr]
    panel.preset_sizes.wait(20)
    assert trial.count == 1 and panel.form.settings().size == (288, 288)


def test_choices_at_one_time_leave_the_networks_whole(panel: PaintPanel, trial: Trial) -> None:
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


def test_a_quick_run_measures_nothing(panel: PaintPanel, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    choose(panel, "best")
    panel.preset_sizes.wait(20)
    assert panel.form.settings().iterations == 400 and panel.form.settings().size == (64, 64)
    assert not trial.count and not note(panel)


def test_a_network_that_is_not_there_is_said_under_the_preset(panel: PaintPanel, trial: Trial) -> None:
    panel.form.inputs("vqgan")[0].value = "nowhere"
    choose(panel, "draft")
    panel.preset_sizes.wait(20)
    assert "no vqgan is called" in note(panel) and not trial.count
    assert panel.form.settings().iterations == 30
