"""The easel: a painting that can be steered while it forms, and made again exactly as it was steered.

Every edit is written into a journal with its step; moments of the run are kept to go back to. Knows settings, steps and
masks; nothing about networks. Wraps a Painter, or any job that paints as one does, and is such a job itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from vqtools.core.errors import UserError
from vqtools.painting.edit_log import EditLog, LogEntry, check_edit
from vqtools.painting.masks import Mask
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.painting.snapshots import DEFAULT_BUDGET, Snapshot, SnapshotTree

if TYPE_CHECKING:
    from PIL import Image

    from vqtools.core.device import Machine

_SNAPSHOTS_PER_RUN = 50  # in a run that is left alone
_SNAPSHOT_TIME_DIVISOR = 20  # remembering may take a twentieth of the time


class PainterLike(Protocol):
    """What stands on the easel: a job that paints."""

    settings: PaintSettings
    machine: Machine
    notes: list[str]

    @property
    def masks(self) -> dict[str, Mask]: ...
    @property
    def position(self) -> int: ...
    @property
    def total(self) -> int: ...
    def step(self) -> dict[str, float]: ...
    def preview(self) -> Image.Image: ...
    def picture(self) -> Image.Image: ...
    def record(self) -> dict[str, Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def set_region(self, index: int, mask: Any) -> None: ...
    def protect(self, mask: Any) -> None: ...
    def repaint(self, mask: Any, fresh: bool = True) -> None: ...


class PaintSession:
    """A job: step, preview, picture, record, state; and beside it what a hand does.

    record: of a picture, whose journal is then followed while this one is made. ``stop_at`` is then the step at which
        that picture was stopped, or None if it was finished.
    budget: bytes for moments of the run.
    """

    # what a user interface can do with this job
    steerable = True  # edit() works between steps
    supports_branching = True  # positions, branch(), undo(), redo(), preview_at() and masks exist
    activity = ""  # goes into file names and records: "" for a single painting

    def __init__(
        self, work: PainterLike, *, record: Mapping[str, Any] | None = None, budget: int = DEFAULT_BUDGET
    ) -> None:
        self.job = work
        self.initial_settings = work.settings.model_copy()
        self.edit_log = EditLog()
        self.snapshots = SnapshotTree(budget)
        self._pending_edits: list[LogEntry] = []
        self._known: dict[str, Mask] = {}
        self._ahead: list[Snapshot] = []  # for redo
        self._snapshot_seconds = self._snapshot_time = 0.0
        self._seen = self.initial_settings
        self.stop_at = _stopped_at(record or {})
        if record:
            told = EditLog.read(record)
            self._pending_edits, self._known = told.script(), told.masks

    # What any job does.

    @property
    def settings(self) -> PaintSettings:
        """As they stand; assigning is an edit of what differs."""
        return self.job.settings

    @settings.setter
    def settings(self, settings: PaintSettings) -> None:
        if changes := _changed_settings(self.job.settings, settings):
            self.edit(changes)

    @property
    def position(self) -> int:
        return self.job.position

    @property
    def total(self) -> int:
        total = self.job.total
        # an edit that was made after the end, and made the run longer, is still to come
        return total + 1 if self._pending_edits and self._pending_edits[0]["step"] == self.position == total else total

    def step(self) -> dict[str, float]:
        """What the journal has for this step, then one step of the work."""
        self._log_setting_changes()
        if self._follow() and self.position >= self.job.total:
            return {}
        self._take_snapshot_if_due()
        position = self.job.position
        scalars = self.job.step()
        self._log_setting_changes(position, why="memory")
        return scalars

    def preview(self) -> Image.Image:
        return self.job.preview()

    def picture(self) -> Image.Image:
        self._follow()
        return self.job.picture()

    def record(self) -> dict[str, Any]:
        """All that the same picture can be made from again: ``settings`` as they stand, and where something was done
        on the way, ``began`` and the journal."""
        told = self.edit_log.record()
        began = {"began": self.initial_settings.model_dump(mode="json")} if told else {}
        return {**self.job.record(), **began, **told}

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs, journal and settings included; the moments to go back to are not."""
        return {
            "work": self.job.state_dict(),
            "settings": self.job.settings.model_dump(mode="json"),
            "began": self.initial_settings.model_dump(mode="json"),
            "journal": {**self.edit_log.record(), "line": list(self.edit_log.line)},
            "script": {
                "entries": self._pending_edits,
                "masks": {name: mask.png.hex() for name, mask in self._known.items()},
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of an easel with the same networks and size."""
        self.job.settings = PaintSettings.parse(state["settings"])
        self.job.load_state_dict(state["work"])
        self.initial_settings, self._seen = PaintSettings.parse(state["began"]), self.job.settings.model_copy()
        self.edit_log = EditLog.read(state["journal"])
        self.edit_log.line = tuple(state["journal"]["line"])
        self._pending_edits = list(state["script"]["entries"])
        self._known = {name: Mask.read(bytes.fromhex(png)) for name, png in state["script"]["masks"].items()}
        self.snapshots, self._ahead = SnapshotTree(self.snapshots.budget), []

    # What a hand does.

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next step on; UserError for what can't be or can't be in mid-run."""
        changes = {**PRESETS.get(str(changes.get("preset")), {}), **changes}
        before = self.job.settings
        wanted = PaintSettings.parse({**before.model_dump(), **changes})
        real = _changed_settings(before, wanted)
        if not real:
            return
        check_edit(real)
        self._prepare_edit()
        self.job.settings = wanted
        self._log_setting_changes()

    def set_region(self, index: int, mask: Any) -> None:
        """Let a prompt, by its index from 0, count only inside a mask (see :meth:`Mask.of`); None lifts it."""
        self._stroke("region", mask, lambda area: self.job.set_region(index, area), prompt=index)

    def protect(self, mask: Any) -> None:
        """Leave alone what a mask covers; None lifts it."""
        self._stroke("protect", mask, self.job.protect)

    def repaint(self, mask: Any, fresh: bool = True, *, extend: bool = False) -> None:
        """Go on inside a mask alone, from random codes, or from what is there (``fresh=False``).

        extend: if the run is finished, make it longer by half of its iterations, but at least 10.
        """
        if extend and self.position >= self.total:
            iterations = self.settings.iterations
            self.edit({"iterations": iterations + max(10, iterations // 2)})
        self._stroke("repaint", mask, lambda area: self.job.repaint(area, fresh), fresh=fresh)

    @property
    def can_repaint(self) -> bool:
        """Whether there is a picture to paint over: not while a transformer still draws the start."""
        return getattr(self.job, "painter", self.job) is not None

    @property
    def masks(self) -> dict[str, Mask]:
        """The areas in force: "prompt 0", … for where a prompt counts, "protect" for what stays."""
        return dict(self.job.masks)

    @property
    def positions(self) -> list[int]:
        """Steps that are remembered on the way here, for a slider; :meth:`branch` reaches those between too."""
        return sorted({moment.position for moment in self.snapshots.path()} | {self.position})

    @property
    def revision(self) -> int:
        """Number of entries in the edit log: two equal values at one position mean the same picture."""
        return len(self.edit_log.entries)

    def remembered_position(self, position: int) -> int:
        """The step whose picture :meth:`preview_at` shows for ``position``."""
        return max((step for step in self.positions if step <= position), default=self.position)

    @property
    def can_undo(self) -> bool:
        return bool(self.edit_log.line) or self.position > 0

    @property
    def can_redo(self) -> bool:
        return bool(self._ahead)

    def undo(self) -> None:
        """Back to just before the last edit or stroke; where there is none, to the remembered moment before."""
        here = self._take_snapshot()
        way, done = self.snapshots.path()[:-1], self._by_hand(here)
        earlier = [one for one in way if self._by_hand(one) < done] if done else way
        if not earlier:
            raise UserError("there is nothing to undo; this is where the run began")
        self._ahead.append(here)
        self._restore_snapshot(earlier[-1])

    def redo(self) -> None:
        """Forward again to where :meth:`undo` was called."""
        if not self._ahead:
            raise UserError("there is nothing to redo; nothing was undone since the last edit")
        self._restore_snapshot(self._ahead.pop())

    def branch(self, position: int) -> None:
        """Back to a step of this run, to go on another way from there; steps between moments are made again."""
        if not 0 <= position <= self.position:
            raise UserError(f"step {position} is not on this run's way; it has come to step {self.position}")
        here = self._take_snapshot()
        way = [one for one in self.snapshots.path() if one.position <= position]
        moment = next(one for one in way if one.position == way[-1].position)  # before what was done at that step
        rest = [index for index in here.line if index not in moment.line]
        self._ahead = []
        self._restore_snapshot(moment)
        for entry in (self.edit_log.entries[index] for index in rest):
            if entry["step"] >= position:
                break
            while self.position < entry["step"]:
                self.step()
            self._do(entry, self.edit_log.masks)
        while self.position < position:
            self.step()

    def preview_at(self, position: int) -> Image.Image:
        """The picture as it was at the last remembered step up to ``position``; nothing changes by looking."""
        way = [one for one in self.snapshots.path() if one.position <= position]
        if not way or position >= self.position:
            return self.preview()
        moment, state, settings = way[-1], self.job.state_dict(), self.job.settings
        try:
            self.job.settings = PaintSettings.parse(moment.settings)
            self.job.load_state_dict(self.snapshots.read(moment))
            return self.job.preview()
        finally:
            self.job.settings = settings
            self.job.load_state_dict(state)

    # How.

    def _stroke(self, do: str, mask: Any, act: Any, **more: Any) -> None:
        area = mask if mask is None or isinstance(mask, Mask) else Mask.of(mask, self.settings.size)
        self._prepare_edit()
        act(area)  # first: what can't be done is not written down
        self.edit_log.add(self.position, do, mask=area, **more)

    def _prepare_edit(self) -> None:
        self._ahead = []
        self._take_snapshot()

    def _do(self, entry: LogEntry, masks: Mapping[str, Mask]) -> None:
        mask = masks[entry["mask"]] if entry.get("mask") else None
        if entry["do"] == "edit":
            self.edit(entry["settings"])
        elif entry["do"] == "region":
            self.set_region(entry["prompt"], mask)
        elif entry["do"] == "protect":
            self.protect(mask)
        else:
            self.repaint(mask, entry["fresh"])

    def _follow(self) -> bool:
        """Do what the journal that is followed has for this step; whether there was anything."""
        found = False
        while self._pending_edits and self._pending_edits[0]["step"] <= self.position:
            self._do(self._pending_edits.pop(0), self._known)
            found = True
        return found

    def _log_setting_changes(self, position: int | None = None, **why: Any) -> None:
        """Write down what has changed in the settings: by an edit, by an assignment to one of them, or by the work."""
        if self.job.settings != self._seen:
            changes = _changed_settings(self._seen, self.job.settings)
            self.edit_log.add(self.position if position is None else position, "edit", settings=changes, **why)
            self._seen = self.job.settings.model_copy()

    def _by_hand(self, moment: Snapshot) -> int:
        """How many of the edits behind a moment somebody made."""
        return sum("why" not in self.edit_log.entries[index] for index in moment.line)

    def _take_snapshot_if_due(self) -> None:
        now = self.snapshots.now
        due = now is None or self.position - now.position >= max(1, self.job.total // _SNAPSHOTS_PER_RUN)
        if due and time.monotonic() - self._snapshot_time >= _SNAPSHOT_TIME_DIVISOR * self._snapshot_seconds:
            self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        """The present as a moment of the history."""
        now = self.snapshots.now
        if now is not None and (now.position, now.line) == (self.position, self.edit_log.line):
            return now
        started = time.monotonic()
        moment = self.snapshots.add(
            self.position, self.edit_log.line, self.job.settings.model_dump(mode="json"), self.job.state_dict()
        )
        self._snapshot_time = time.monotonic()
        self._snapshot_seconds = self._snapshot_time - started
        return moment

    def _restore_snapshot(self, moment: Snapshot) -> None:
        left = self.position
        state = self.snapshots.go(moment)
        self.job.settings = PaintSettings.parse(moment.settings)
        self.job.load_state_dict(state)
        self._seen = self.job.settings.model_copy()
        self.edit_log.add(left, "go", to=moment.position, line=list(moment.line))


def _stopped_at(record: Mapping[str, Any]) -> int | None:
    position, total = record.get("position"), record.get("total")
    if not isinstance(position, int) or position <= 0 or (isinstance(total, int) and position >= total):
        return None
    return position


def _changed_settings(before: PaintSettings, after: PaintSettings) -> dict[str, Any]:
    """What has changed, as plain JSON."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {name: value for name, value in new.items() if old[name] != value}
