"""The planner's counts against what is really taken, and what it proposes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from vqtools.core.device import Machine
from vqtools.painting import memory_plan
from vqtools.painting.memory_plan import (
    MemoryNeeds,
    MemoryPlan,
    apply_plan,
    available_memory,
    count_memory,
    plan_memory,
)
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings

Make = Callable[..., Painter]
CPU = Machine(torch.device("cpu"), "fp32", 1)


def taken(painting: Painter) -> int:
    """The most bytes that a step holds at a time, beyond what stands before it."""
    painting.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        painting.step()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("fields", [{}, {"checkpoint": "on"}, {"cutouts": 40}, {"cutouts": 40, "group": 4}])
def test_counted_bytes_are_close_to_measured_ones(painter: Make, fields: dict[str, object]) -> None:
    painting = painter(**{"size": (64, 48), "cutouts": 6, "augment": "Af", "checkpoint": "off", **fields})
    needs = count_memory(painting.settings, painting.vqgan, painting.clips, CPU)
    expected = needs.peak(painting.settings.group or painting.settings.cutouts, painting.settings.checkpoint == "on")
    assert 0.8 < expected / taken(painting) < 1.35


def test_memory_does_not_grow_with_the_number_of_cutouts(painter: Make) -> None:
    few, many = (taken(painter(size=(96, 64), cutouts=cutouts, group=4)) for cutouts in (8, 64))
    assert many < 1.05 * few


def test_counting_changes_neither_networks_nor_random_numbers(painter: Make) -> None:
    painting, before = painter(), torch.get_rng_state()
    weights = [p.clone() for p in painting.vqgan.parameters()]
    plan_memory(painting.settings, painting.vqgan, painting.clips, CPU)
    assert all(torch.equal(a, b) for a, b in zip(weights, painting.vqgan.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert painting.step() == painter().step()


NEEDS = MemoryNeeds(decoder=4000, decoder_checkpointed=500, largest_block=800, workspace=200, per_cutout=100, other=100)


def proposal(monkeypatch: pytest.MonkeyPatch, free: int | None, **fields: object) -> MemoryPlan:
    monkeypatch.setattr(memory_plan, "count_memory", lambda *_: NEEDS)
    settings = PaintSettings.parse({"cutouts": 32, **fields})
    return plan_memory(settings, None, [], CPU, free=free)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "fields", "group", "checkpoint", "fits"),
    [
        (10**5, {}, 32, False, True),
        (7000, {}, 16, False, True),
        (5600, {}, 8, False, True),
        (4500, {}, 32, True, True),
        (2000, {}, 8, True, True),
        (4500, {"group": 2}, 2, True, True),
        (4800, {"checkpoint": "off"}, 2, False, True),
        (1000, {}, 1, True, False),
        (5600, {"checkpoint": "on", "group": 4}, 4, True, True),
    ],
)
def test_the_fastest_option_that_fits_is_proposed(
    monkeypatch: pytest.MonkeyPatch, free: int, fields: dict[str, object], group: int, checkpoint: bool, fits: bool
) -> None:
    plan = proposal(monkeypatch, free, **fields)
    assert (plan.group, plan.checkpoint, plan.fits) == (group, checkpoint, fits)
    assert (plan.peak <= 0.9 * free) == fits
    settings = apply_plan(PaintSettings.parse({"cutouts": 32, **fields}), plan)
    assert min(settings.group or 32, 32) == group
    assert ("too much: choose a smaller size" in plan.describe()) != fits


def test_settings_that_fit_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PaintSettings.parse({"cutouts": 32})
    assert apply_plan(settings, proposal(monkeypatch, 10**5)) == settings
    assert proposal(monkeypatch, 10**11).describe() == "needs 0.0 GB of 93.1 GB free"
    free = available_memory(CPU)
    assert free is None or free > 2**20
