"""Presets are measured: a faster machine paints larger pictures, and a result is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vqtools.core.device import choose_machine
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.pipelines import presets
from vqtools.pipelines.presets import (
    _BENCHMARK_CASES,
    _CANDIDATE_SIDES,
    TIME_BUDGETS,
    StepTimeModel,
    _fit_step_time,
    apply_preset,
    measure_presets,
    run_benchmark,
)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    monkeypatch.delenv("VQTOOLS_QUICK", raising=False)
    return tmp_path


def fake_benchmark(monkeypatch: pytest.MonkeyPatch, pixel: float) -> list[int]:
    runs: list[int] = []

    def run(settings: PaintSettings, machine: object) -> StepTimeModel:
        runs.append(1)
        return StepTimeModel(0.0, pixel, 0.001, 9, "a machine")

    monkeypatch.setattr(presets, "run_benchmark", run)
    return runs


def test_a_benchmark_times_steps_and_solves_for_their_parts() -> None:
    speed = run_benchmark(PaintSettings(), choose_machine(), seconds=0.2)  # too short to separate the unknowns
    assert speed.steps >= 3 and speed.seconds_per_step((256, 256), 16) >= speed.seconds_per_step((128, 128), 4) > 0
    cases = [PaintSettings(size=size, cutouts=cutouts) for size, cutouts in _BENCHMARK_CASES]
    model = StepTimeModel(0.01, 1e-6, 0.002, 0, "")
    solved = _fit_step_time(
        *(model.seconds_per_step(case.size, case.cutouts) for case in cases), cases, 1, choose_machine()
    )
    assert (solved.base, solved.pixel, solved.cutout) == pytest.approx((0.01, 1e-6, 0.002))


def test_each_preset_is_the_largest_picture_within_its_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_benchmark(monkeypatch, 1e-5)
    speed, sizes = measure_presets()
    for name, preset in sizes.items():
        assert (preset.iterations, preset.cutouts) == (PRESETS[name]["iterations"], PRESETS[name]["cutouts"])
        assert preset.seconds <= TIME_BUDGETS[name] and not preset.size[0] % 8
        larger = _CANDIDATE_SIDES[_CANDIDATE_SIDES.index(preset.size[0]) + 1]
        assert preset.iterations * speed.seconds_per_step((larger, larger), preset.cutouts) > TIME_BUDGETS[name]


def test_presets_are_limited_by_the_resolution_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_benchmark(monkeypatch, 1e-9)  # every size fits the time
    sides = [preset.size[0] for preset in measure_presets()[1].values()]
    assert sides == [192, 192, 288, 384]  # 2, 2, 3 and 4 times 96 pixels


def test_a_faster_machine_paints_larger_and_keeps_the_aspect_ratio(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    fake_benchmark(monkeypatch, 1e-5)
    slow = measure_presets()[1]["normal"].size
    (home / "presets.json").unlink()
    fake_benchmark(monkeypatch, 2e-7)
    assert measure_presets()[1]["normal"].size[0] > slow[0]
    wide = measure_presets(PaintSettings(size=(256, 128)))[1]["normal"].size
    assert wide[0] == pytest.approx(2 * wide[1], abs=16)


def test_results_are_stored_and_measured_again_on_request_or_if_damaged(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    runs, messages = fake_benchmark(monkeypatch, 1e-6), []
    for _ in range(2):
        measure_presets(notify=messages.append)
    assert len(runs) == len(messages) == 1 and "10 seconds" in messages[0]
    measure_presets(again=True)
    assert len(runs) == 2
    (home / "presets.json").write_text(json.dumps({"x": 1}))
    measure_presets()
    assert len(runs) == 3


def test_given_settings_stay_and_without_a_preset_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = fake_benchmark(monkeypatch, 1e-6)
    assert apply_preset({"prompt": "a"}) == {"prompt": "a"} and not runs
    whole = {"preset": "best", "size": "64x64", "iterations": 3, "cutouts": 2}  # like a picture's record
    assert apply_preset(whole) == whole and not runs
    best = apply_preset({"preset": "best", "iterations": "7"})
    assert best["iterations"] == "7" and best["cutouts"] == PRESETS["best"]["cutouts"] and best["size"]
    assert apply_preset({"preset": "best", "size": "64x64"})["size"] == "64x64"
    assert apply_preset({"preset": "nonsense"}) == {"preset": "nonsense"}  # the settings class reports it


def test_a_preset_describes_itself_in_one_line() -> None:
    preset = presets.Preset("normal", (192, 192), 100, 8, 14.2)
    assert preset.describe() == "normal: 192x192, 100 iterations, 8 cutouts, about 14 s"
