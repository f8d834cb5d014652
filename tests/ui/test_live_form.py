"""Changes of a form during a run and at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ui.conftest import wait_until
from vqtools.core.settings import Settings, option
from vqtools.ui.form import Form
from vqtools.ui.job_runner import RunHooks, Runner
from vqtools.ui.live_form import NEXT_BRANCH, NEXT_RUN, LiveForm


class Wave(Settings):
    rate: float = option(0.1, help="how fast", gt=0)
    strength: float = option(1.0, help="how strong", gt=0)
    size: int = option(8, help="how large", live=False)


class Hooks(RunHooks):
    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.live_form: LiveForm | None = None

    def plan(self) -> Callable[[], Any]:
        return self.make

    def before_resume(self, job: Any) -> None:
        assert self.live_form is not None
        self.live_form.apply_pending(job)


def edit(job: Any, changes: dict[str, Any]) -> str:
    job.edits.append(changes)
    return "edited"


@pytest.fixture
def job(counting_job: Any) -> Any:
    job = counting_job(5)
    job.edits, job.settings = [], Wave()
    return job


@pytest.fixture
def live_form(job: Any) -> Iterator[LiveForm]:
    hooks = Hooks(lambda: job)
    form = Form(Wave())
    runner = Runner(hooks, resumable=True)
    live_form = hooks.live_form = LiveForm(
        form, runner, edit=edit, fields_of=lambda job: Wave.live_fields(), next_step="soon", on_resume="later"
    )
    form.on_change = live_form.field_changed
    yield live_form
    runner.stop()
    assert runner.wait(20)


def note_of(live_form: LiveForm, name: str) -> str:
    return str(live_form.form.row(name).children[-1].value)


def start_paused(live_form: LiveForm) -> None:
    live_form.runner.start(paused=True)
    wait_until(lambda: "Paused at 0" in live_form.runner.status.value)


def test_before_the_first_run_a_change_has_no_note(live_form: LiveForm) -> None:
    live_form.form.inputs("rate")[0].value = 0.5
    assert note_of(live_form, "rate") == "" and not live_form.pending


def test_a_live_field_edits_the_job_and_another_is_noted_for_the_next_run(live_form: LiveForm, job: Any) -> None:
    start_paused(live_form)
    live_form.form.inputs("rate")[0].value = 0.5
    live_form.form.inputs("size")[0].value = 16
    wait_until(lambda: job.edits == [{"rate": 0.5}])
    assert note_of(live_form, "rate") == "soon" and note_of(live_form, "size") == NEXT_RUN


def test_an_invalid_value_is_not_applied(live_form: LiveForm, job: Any) -> None:
    start_paused(live_form)
    live_form.form.inputs("rate")[0].value = -1.0
    live_form.form.inputs("strength")[0].value = 2.0
    wait_until(lambda: bool(job.edits))
    assert job.edits == [{"strength": 2.0}] and "more than 0" in note_of(live_form, "rate")


def test_changes_at_rest_are_applied_when_the_job_is_resumed(live_form: LiveForm, job: Any) -> None:
    start_paused(live_form)
    live_form.runner.stop()
    assert live_form.runner.wait(20)
    live_form.form.inputs("rate")[0].value = 0.5
    live_form.form.inputs("strength")[0].value = 2.0
    assert job.edits == [] and note_of(live_form, "rate") == "later"
    live_form.runner.pause()
    assert live_form.runner.wait(20)
    assert job.edits == [{"rate": 0.5, "strength": 2.0}] and not live_form.pending


def test_a_change_while_an_earlier_step_is_shown_waits_for_the_branch(live_form: LiveForm, job: Any) -> None:
    start_paused(live_form)
    live_form.field_changed("rate", viewing_past=True)
    assert live_form.pending == {"rate"} and note_of(live_form, "rate") == NEXT_BRANCH and job.edits == []
