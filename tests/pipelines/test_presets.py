"""Presets are measured: a quicker machine gets larger pictures, and nobody measures twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vqtools.cli.main import main
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


def known(monkeypatch: pytest.MonkeyPatch, pixel: float) -> list[int]:
    trials: list[int] = []

    def trial(settings: PaintSettings, machine: object) -> StepTimeModel:
        trials.append(1)
        return StepTimeModel(0.0, pixel, 0.001, 9, "a machine")

    monkeypatch.setattr(presets, "run_benchmark", trial)
    return trials


def test_a_trial_times_steps_and_solves_for_their_parts() -> None:
    speed = run_benchmark(PaintSettings(), choose_machine(), seconds=0.2)  # too short to tell them apart
    assert speed.steps >= 3 and speed.step((256, 256), 16) >= speed.step((128, 128), 4) > 0
    wishes = [PaintSettings(size=size, cutouts=cutouts) for size, cutouts in _BENCHMARK_CASES]
    made = StepTimeModel(0.01, 1e-6, 0.002, 0, "")
    again = _fit_step_time(*(made.step(wish.size, wish.cutouts) for wish in wishes), wishes, 1, choose_machine())
    assert (again.base, again.pixel, again.cutout) == pytest.approx((0.01, 1e-6, 0.002))


def test_each_preset_is_the_largest_picture_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, 1e-5)
    speed, found = measure_presets()
    for name, one in found.items():
        assert (one.iterations, one.cutouts) == (PRESETS[name]["iterations"], PRESETS[name]["cutouts"])
        assert one.seconds <= TIME_BUDGETS[name] and not one.size[0] % 8
        larger = _CANDIDATE_SIDES[_CANDIDATE_SIDES.index(one.size[0]) + 1]
        assert one.iterations * speed.step((larger, larger), one.cutouts) > TIME_BUDGETS[name]


def test_no_preset_is_larger_than_the_network_can_fill_and_none_than_a_dearer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known(monkeypatch, 1e-9)  # time for anything
    sides = [one.size[0] for one in measure_presets()[1].values()]
    assert sides == [192, 192, 288, 384]  # 96 pixels, 2, 2, 3 and 4 times


def test_a_quicker_machine_paints_larger_and_the_shape_is_kept(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    known(monkeypatch, 1e-5)
    slow = measure_presets()[1]["normal"].size
    (home / "presets.json").unlink()
    known(monkeypatch, 2e-7)
    assert measure_presets()[1]["normal"].size[0] > slow[0]
    wide = measure_presets(PaintSettings(size=(256, 128)))[1]["normal"].size
    assert wide[0] == pytest.approx(2 * wide[1], abs=16)


def test_measured_once_and_again_when_asked_or_spoilt(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    trials, said = known(monkeypatch, 1e-6), []
    for _ in range(2):
        measure_presets(say=said.append)
    assert len(trials) == len(said) == 1 and "10 seconds" in said[0]
    measure_presets(again=True)
    assert len(trials) == 2
    (home / "presets.json").write_text(json.dumps({"x": 1}))
    measure_presets()
    assert len(trials) == 3


def test_what_is_set_stands_and_without_a_preset_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = known(monkeypatch, 1e-6)
    assert apply_preset({"prompt": "a"}) == {"prompt": "a"} and not trials
    whole = {"preset": "best", "size": "64x64", "iterations": 3, "cutouts": 2}  # as a picture's record has it
    assert apply_preset(whole) == whole and not trials
    best = apply_preset({"preset": "best", "iterations": "7"})
    assert best["iterations"] == "7" and best["cutouts"] == PRESETS["best"]["cutouts"] and best["size"]
    assert apply_preset({"preset": "best", "size": "64x64"})["size"] == "64x64"
    assert apply_preset({"preset": "nonsense"}) == {"preset": "nonsense"}  # the settings class says what is wrong


def test_the_command_says_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch, 1e-6)
    with pytest.raises(SystemExit):
        main(["presets"])
    out = capsys.readouterr().out
    assert "steps/s at 256x256" in out and all(name in out for name in PRESETS)
