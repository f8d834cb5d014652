"""The training loop that both stages share: start or resume a run, step, measure, log, save, and export a model.

Knows run folders, processes and the schedule; what is trained and how it is measured is up to the subclasses.
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
    """Fields that the settings of every training have."""

    name: str
    batch_size: int
    learning_rate: float
    measure_every: int
    save_minutes: float
    tensorboard: bool


class TrainingStage(Protocol):
    """A training as a job, without its folder."""

    position: int
    total: int
    team: Distributed

    def step(self) -> dict[str, float]:
        """Train on one batch; report scalars, "loss" among them."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to continue from here."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


StageT = TypeVar("StageT", bound=TrainingStage)
SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class RunStart(Generic[SettingsT]):
    """What a training starts with.

    settings: those of the run if it is resumed. state: the newest one, or None if there is none.
    """

    settings: SettingsT
    run: RunFolder
    team: Distributed
    machine: Machine
    resume: bool
    state: dict[str, Any] | None


class Trainer(Generic[StageT]):
    """A training with its run folder, as a job: trains, measures, logs, saves. Only the first process writes.

    key: the name of the stage's part in a state.
    """

    key = "stage"

    def __init__(self, settings: TrainingSettings, stage: StageT, run: RunFolder) -> None:
        self._settings, self.stage, self.run = settings, stage, run
        self.measured: dict[str, float] = {}
        self.best = math.inf
        self.model: Path | None = None  # the exported file, once the run is finished
        self._saved = time.monotonic()
        self._writer = _summary_writer(run.folder) if settings.tensorboard and stage.team.rank == 0 else None

    @property
    def position(self) -> int:
        """Steps done."""
        return self.stage.position

    @property
    def total(self) -> int:
        """Steps in all; fewer than the settings' once the training is stopped early."""
        return self.stage.total

    @property
    def team(self) -> Distributed:
        """The processes that train together."""
        return self.stage.team

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.stage.team.rank == 0

    def step(self) -> dict[str, float]:
        """Train on one batch; measure, log and save when it is time.

        UserError if the loss is not finite.
        """
        report = self.stage.step()
        if not math.isfinite(report["loss"]):
            raise UserError(
                f"the loss is {report['loss']} after step {self.position}; continue from the last state with a lower "
                f"--learning-rate than {self._settings.learning_rate:g}"
            )
        due = self.position == self.total or self.position % self._settings.measure_every == 0
        if due:
            if self.first:
                report = report | self.measure()
            self.check_early_stopping()
        if self.first and (due or self.position % 10 == 0 or self.position == 1):
            self.run.log(self.position, report)
            if self._writer:
                for name, value in report.items():
                    self._writer.add_scalar(name, value, self.position)
        if self.position == self.total or time.monotonic() - self._saved > 60 * self._settings.save_minutes:
            self.save()
        return report

    def measure(self) -> dict[str, float]:
        """Measure the exported weights on the held-out pictures, and write previews to the run folder."""
        raise NotImplementedError

    def check_early_stopping(self) -> None:
        """After a measurement, lower ``total`` to stop the training early; called in every process."""

    def export(self, path: Path) -> Path:
        """Write the averaged weights to a model file."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the state; at the end also the model, under its name in the models' folder."""
        if not self.first:
            return
        self.run.save(self.position, self.state_dict())
        self._saved = time.monotonic()
        if self.position == self.total:
            home_folder().mkdir(parents=True, exist_ok=True)
            self.model = self.export(home_folder() / f"{self._settings.name}.safetensors")
            self.run.finish(self.position)

    def state_dict(self) -> dict[str, Any]:
        """The stage's state and the measurements."""
        return {self.key: self.stage.state_dict(), "best": self.best, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.stage.load_state_dict(state[self.key])
        self.best, self.measured = state["best"], state["measured"]

    def start_or_resume(self, start: RunStart[Any], about: str) -> None:
        """Continue from the state of a resumed run, or write the settings of a new one.

        about: a line for the run's about.txt.
        """
        if start.state is not None:
            self.load_state_dict(start.state)
            self.run.rewind(self.position)
            if self.position == self.total:  # only the model is left to write: it may have been deleted
                self.save()
        elif self.first and not start.resume:
            assert isinstance(self._settings, Settings)
            self.run.begin(self._settings.model_dump(mode="json"))
            self.run.write("about.txt", f"{about}\ndevice: {start.machine.describe()}\n")


def begin_run(settings: SettingsT, *, folder: str | Path, resume: bool, machine: Machine | None) -> RunStart[SettingsT]:
    """Find the run of the settings' name in a folder, or prepare a new one.

    settings: with the fields of :class:`TrainingSettings` and a ``precision``; a resumed run's own settings replace
        them. UserError if the name is no file name, if there is no run to resume, or if the batch size is not a
        multiple of the number of processes.
    """
    fields: Any = settings
    if not fields.name or Path(fields.name).name != fields.name or fields.name.startswith("."):
        raise UserError(f"name {shorten(fields.name)} is not a file name; use letters, digits and dashes")
    run, team, state = RunFolder(Path(folder) / fields.name), init_distributed(machine), None
    if resume:
        kept, state = team.broadcast((run.settings(), run.load()) if team.rank == 0 else None)
        fields = settings = type(settings).parse(kept)
    machine = machine or choose_machine(precision=fields.precision)
    if team.accelerator:
        machine = replace(machine, device=team.accelerator.device)
    if fields.batch_size % team.size:
        fitting = max(team.size, fields.batch_size // team.size * team.size)
        raise UserError(
            f"batch_size {fields.batch_size} is not a multiple of {team.size} processes; the nearest below is {fitting}"
        )
    return RunStart(settings, run, team, machine, resume, state)


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed; pip install tensorboard, or omit --tensorboard") from None
    return SummaryWriter(folder)
