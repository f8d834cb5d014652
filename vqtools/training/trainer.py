"""What every training with a folder does: begin or go on, step, measure, log, save, and leave a model.

Knows runs, teams and when to do what; what is trained and how it is measured is said by those who build on it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vqtools.core.device import Machine, choose_machine
from vqtools.core.distributed import Distributed, init_distributed
from vqtools.core.errors import UserError, shorten
from vqtools.core.paths import home_folder
from vqtools.core.settings import Settings
from vqtools.training.run_folder import RunFolder


class TrainingSettings(Protocol):
    """What the settings of every training have."""

    name: str
    batch_size: int
    learning_rate: float
    measure_every: int
    save_minutes: float
    tensorboard: bool


class TrainingStage(Protocol):
    """A training in steps, with its team."""

    position: int
    total: int
    team: Distributed

    def step(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


T = TypeVar("T", bound=TrainingStage)


class Trainer(Generic[T]):
    """A training with its folder, as a job: trains, measures, logs, saves. Only the team's first process writes.

    key: what the stage's part of a state is called.
    """

    key = "stage"

    def __init__(self, settings: TrainingSettings, stage: T, run: RunFolder) -> None:
        self._told, self.stage, self.run = settings, stage, run
        self.measured: dict[str, float] = {}
        self.best = math.inf
        self.model: Path | None = None  # where the model lies when it is finished
        self._saved = time.monotonic()
        self._writer = _summary_writer(run.folder) if settings.tensorboard and stage.team.rank == 0 else None

    @property
    def position(self) -> int:
        return self.stage.position

    @property
    def total(self) -> int:
        return self.stage.total

    @property
    def team(self) -> Distributed:
        return self.stage.team

    @property
    def first(self) -> bool:
        return self.stage.team.rank == 0

    def step(self) -> dict[str, float]:
        """One batch; now and then a measurement, a row of the log, a saved state."""
        report = self.stage.step()
        if not math.isfinite(report["loss"]):
            raise UserError(
                f"the loss is {report['loss']} after step {self.position}; go on from the last state with a lower "
                f"--learning-rate than {self._told.learning_rate:g}"
            )
        due = self.position == self.total or self.position % self._told.measure_every == 0
        if due:
            if self.first:
                report = report | self.measure()
            self.judge()
        if self.first and (due or self.position % 10 == 0 or self.position == 1):
            self.run.log(self.position, report)
            if self._writer:
                for name, value in report.items():
                    self._writer.add_scalar(name, value, self.position)
        if self.position == self.total or time.monotonic() - self._saved > 60 * self._told.save_minutes:
            self.save()
        return report

    def measure(self) -> dict[str, float]:
        """Measure the weights that are kept on the held-out pictures; write what there is to see."""
        raise NotImplementedError

    def judge(self) -> None:
        """Whether to go on, after a measurement; every process asks."""

    def export(self, path: Path) -> Path:
        """Write the weights that are kept as a model."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the state; at the end also the model, where it is found by its name."""
        if not self.first:
            return
        self.run.save(self.position, self.state_dict())
        self._saved = time.monotonic()
        if self.position == self.total:
            home_folder().mkdir(parents=True, exist_ok=True)
            self.model = self.export(home_folder() / f"{self._told.name}.safetensors")
            self.run.finish(self.position)

    def state_dict(self) -> dict[str, Any]:
        return {self.key: self.stage.state_dict(), "best": self.best, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stage.load_state_dict(state[self.key])
        self.best, self.measured = state["best"], state["measured"]

    def begin(self, begun: RunStart[Any], about: str) -> None:
        """Go on from the state that was found, or put down what was asked for."""
        if begun.state is not None:
            self.load_state_dict(begun.state)
            self.run.rewind(self.position)
            if self.position == self.total:  # nothing left but to write the model, which may have been deleted
                self.save()
        elif self.first and not begun.resume:
            assert isinstance(self._told, Settings)
            self.run.begin(self._told.model_dump(mode="json"))
            self.run.write("about.txt", f"{about}\ndevice: {begun.machine.describe()}\n")


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class RunStart(Generic[S]):
    """What a training begins with: the settings that hold, the newest state where there is one, machine and team."""

    settings: S
    run: RunFolder
    team: Distributed
    machine: Machine
    resume: bool
    state: dict[str, Any] | None


def begin_run(settings: S, *, folder: str | Path, resume: bool, machine: Machine | None) -> RunStart[S]:
    """Find the run of a name in a folder, or a place for it; UserError where the name is none or the run is not there.

    settings: with the fields of :class:`TrainingSettings` and a ``precision``; those of the run hold where it resumes.
    """
    told: Any = settings
    if not told.name or Path(told.name).name != told.name or told.name.startswith("."):
        raise UserError(f"name {shorten(told.name)} is no file name; use letters, digits and dashes")
    run, team, state = RunFolder(Path(folder) / told.name), init_distributed(machine), None
    if resume:
        kept, state = team.broadcast((run.settings(), run.load()) if team.rank == 0 else None)
        told = settings = type(settings).parse(kept)
    machine = machine or choose_machine(precision=told.precision)
    if team.accelerator:
        machine = replace(machine, device=team.accelerator.device)
    if told.batch_size % team.size:
        fitting = max(team.size, told.batch_size // team.size * team.size)
        raise UserError(f"batch_size {told.batch_size} can't be dealt to {team.size} processes; take {fitting}")
    return RunStart(settings, run, team, machine, resume, state)


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed; pip install tensorboard, or leave --tensorboard away") from None
    return SummaryWriter(folder)
