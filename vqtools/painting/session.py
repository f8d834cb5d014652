"""A paint session: a painting that can be edited during its run, and repeated exactly with its edits.

Every edit is appended to a log with its step; snapshots of the run are kept for undo and branches. Knows settings,
steps and masks; nothing about networks. Wraps a Painter, or any job that paints like one, and is a job itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from vqtools.core.errors import UserError
from vqtools.painting.edit_log import EditLog, LogEntry, check_edit
from vqtools.painting.masks import Mask, masks_from_state, masks_to_state
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.painting.snapshots import DEFAULT_BUDGET, Snapshot, SnapshotTree

if TYPE_CHECKING:
    from PIL import Image

    from vqtools.core.device import Machine


class PainterLike(Protocol):
    """A job that paints: a Painter, or a PaintJob, which draws its own start."""

    settings: PaintSettings
    machine: Machine
    notes: list[str]

    @property
    def masks(self) -> dict[str, Mask]:
        """The masks in force, by "prompt 0", … and "protect"."""

    @property
    def position(self) -> int:
        """Steps done."""

    @property
    def total(self) -> int:
        """Steps in all."""

    def step(self) -> dict[str, float]:
        """One step; returns scalars by name."""

    def preview(self) -> Image.Image:
        """What to show during the run."""

    def picture(self) -> Image.Image:
        """The picture in its current state."""

    def record(self) -> dict[str, Any]:
        """What the same picture can be made from again."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, except for settings and networks."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""

    def set_region(self, index: int, mask: Any) -> None:
        """Confine a prompt to a mask."""

    def protect(self, mask: Any) -> None:
        """Keep the area of a mask unchanged."""

    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """Continue inside a mask only."""


class PaintSession:
    """A job (step, preview, picture, record, state) with edits, masks, undo, redo and branches.

    record: of a picture whose logged edits are repeated during this run. ``stop_at`` is then the step at which that
        picture was stopped, or None if it was finished.
    budget: bytes for snapshots.
    """

    # what a user interface can do with this job
    steerable = True  # edit() works between steps
    supports_branching = True  # positions, branch(), undo(), redo(), preview_at() and masks exist
    activity = ""  # goes into file names and records: "" for a single painting

    def __init__(
        self, job: PainterLike, *, record: Mapping[str, Any] | None = None, budget: int = DEFAULT_BUDGET
    ) -> None:
        self.job = job
        self.initial_settings = job.settings.model_copy()
        self.edit_log = EditLog()
        self.snapshots = SnapshotTree(budget)
        self.stop_at = _stopped_at(record or {})
        replayed = EditLog.from_record(record or {})
        self._pending_edits, self._replay_masks = replayed.active(), replayed.masks
        self._redo_stack: list[Snapshot] = []
        self._last_settings = self.initial_settings

    @property
    def settings(self) -> PaintSettings:
        """The current settings; assigning others is an edit of the fields that differ."""
        return self.job.settings

    @settings.setter
    def settings(self, settings: PaintSettings) -> None:
        if changes := _changed_settings(self.job.settings, settings):
            self.edit(changes)

    @property
    def position(self) -> int:
        """Steps done."""
        return self.job.position

    @property
    def total(self) -> int:
        """Steps in all."""
        total = self.job.total
        # an edit that was made at the end of the run, and extended it, is still pending
        return total + 1 if self._pending_edits and self._pending_edits[0]["step"] == self.position == total else total

    @property
    def revision(self) -> int:
        """Number of entries in the edit log: two equal values at one position mean the same picture."""
        return len(self.edit_log.entries)

    def step(self) -> dict[str, float]:
        """Repeat the edits that the followed log has for this step, then do one step of the job."""
        self._log_setting_changes()
        if self._replay_pending_edits() and self.position >= self.job.total:
            return {}
        if self.snapshots.is_due(self.position, self.job.total):
            self._take_snapshot()
        position = self.job.position
        scalars = self.job.step()
        self._log_setting_changes(position, why="memory")
        return scalars

    def preview(self) -> Image.Image:
        """What to show during the run."""
        return self.job.preview()

    def picture(self) -> Image.Image:
        """The picture in its current state."""
        self._replay_pending_edits()
        return self.job.picture()

    def record(self) -> dict[str, Any]:
        """For the PNG: the current settings and, if there are edits, the initial settings and the edit log."""
        log = self.edit_log.record()
        began = {"began": self.initial_settings.model_dump(mode="json")} if log else {}
        return {**self.job.record(), **began, **log}

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, edit log and settings included, snapshots excluded."""
        return {
            "work": self.job.state_dict(),
            "settings": self.job.settings.model_dump(mode="json"),
            "began": self.initial_settings.model_dump(mode="json"),
            "journal": {**self.edit_log.record(), "line": list(self.edit_log.active_entries)},
            "script": {"entries": self._pending_edits, "masks": masks_to_state(self._replay_masks)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a session with the same networks and size."""
        self.job.settings = PaintSettings.parse(state["settings"])
        self.job.load_state_dict(state["work"])
        self.initial_settings = PaintSettings.parse(state["began"])
        self._last_settings = self.job.settings.model_copy()
        self.edit_log = EditLog.from_record(state["journal"])
        self.edit_log.active_entries = tuple(state["journal"]["line"])
        self._pending_edits = list(state["script"]["entries"])
        self._replay_masks = masks_from_state(state["script"]["masks"])
        self.snapshots, self._redo_stack = SnapshotTree(self.snapshots.budget), []

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next step on; UserError for invalid values and for fields that are not live."""
        changes = {**PRESETS.get(str(changes.get("preset")), {}), **changes}
        before = self.job.settings
        after = PaintSettings.parse({**before.model_dump(), **changes})
        actual_changes = _changed_settings(before, after)
        if not actual_changes:
            return
        check_edit(actual_changes)
        self._prepare_edit()
        self.job.settings = after
        self._log_setting_changes()

    def set_region(self, index: int, mask: Any) -> None:
        """Confine a prompt, by its index from 0, to a mask (see :meth:`Mask.from_source`); None removes the mask."""
        self._apply_mask("region", mask, lambda area: self.job.set_region(index, area), prompt=index)

    def protect(self, mask: Any) -> None:
        """Keep the area of a mask unchanged from now on; None removes the mask."""
        self._apply_mask("protect", mask, self.job.protect)

    def repaint(self, mask: Any, fresh: bool = True, *, extend: bool = False) -> None:
        """Continue inside a mask only: from random codes, or from what is there (``fresh=False``).

        extend: if the run is finished, make it longer by half of its iterations, but at least 10.
        """
        if extend and self.position >= self.total:
            iterations = self.settings.iterations
            self.edit({"iterations": iterations + max(10, iterations // 2)})
        self._apply_mask("repaint", mask, lambda area: self.job.repaint(area, fresh), fresh=fresh)

    @property
    def can_repaint(self) -> bool:
        """Whether there is a picture to repaint: not while a transformer still draws the start."""
        return getattr(self.job, "painter", self.job) is not None

    @property
    def masks(self) -> dict[str, Mask]:
        """The masks in force: "prompt 0", … of prompts with a region, "protect" for the protected area."""
        return dict(self.job.masks)

    @property
    def positions(self) -> list[int]:
        """Steps of this branch with a snapshot, and the current one; :meth:`branch` reaches those between, too."""
        return sorted({snapshot.position for snapshot in self.snapshots.path()} | {self.position})

    def remembered_position(self, position: int) -> int:
        """The step whose picture :meth:`preview_at` shows for ``position``."""
        return max((step for step in self.positions if step <= position), default=self.position)

    @property
    def can_undo(self) -> bool:
        """Whether :meth:`undo` has something to undo."""
        return bool(self.edit_log.active_entries) or self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether :meth:`redo` has something to redo."""
        return bool(self._redo_stack)

    def undo(self) -> None:
        """Go back to just before the user's last edit; if there is none, to the previous snapshot."""
        present = self._take_snapshot()
        path, edits = self.snapshots.path()[:-1], self._count_user_edits(present)
        earlier = [snapshot for snapshot in path if self._count_user_edits(snapshot) < edits] if edits else path
        if not earlier:
            raise UserError("there is nothing to undo; the run is at its start")
        self._redo_stack.append(present)
        self._restore_snapshot(earlier[-1])

    def redo(self) -> None:
        """Go forward again to where :meth:`undo` was called."""
        if not self._redo_stack:
            raise UserError("there is nothing to redo; nothing was undone since the last edit")
        self._restore_snapshot(self._redo_stack.pop())

    def branch(self, position: int) -> None:
        """Go back to a step of this run to continue differently; steps after the nearest snapshot are repeated."""
        if not 0 <= position <= self.position:
            raise UserError(f"step {position} is not part of this run, which is at step {self.position}")
        present = self._take_snapshot()
        path = self.snapshots.path(until=position)
        # the first one at the last position: before the edits made there
        nearest = next(snapshot for snapshot in path if snapshot.position == path[-1].position)
        later_edits = [index for index in present.active_entries if index not in nearest.active_entries]
        self._redo_stack = []
        self._restore_snapshot(nearest)
        for entry in (self.edit_log.entries[index] for index in later_edits):
            if entry["step"] >= position:
                break
            while self.position < entry["step"]:
                self.step()
            apply_entry(self, entry, self.edit_log.masks)
        while self.position < position:
            self.step()

    def preview_at(self, position: int) -> Image.Image:
        """The picture at the last snapshot up to ``position``; the session stays as it is."""
        path = self.snapshots.path(until=position)
        if not path or position >= self.position:
            return self.preview()
        return _preview_of(self.job, PaintSettings.parse(path[-1].settings), self.snapshots.read(path[-1]))

    def _apply_mask(self, do: str, mask: Any, apply: Callable[[Mask | None], None], **values: Any) -> None:
        area = mask if mask is None or isinstance(mask, Mask) else Mask.from_source(mask, self.settings.size)
        self._prepare_edit()
        apply(area)  # before it is logged: it may be impossible
        self.edit_log.add(self.position, do, mask=area, **values)

    def _prepare_edit(self) -> None:
        self._redo_stack = []
        self._take_snapshot()

    def _replay_pending_edits(self) -> bool:
        """Apply the pending edits of this step; returns whether there were any."""
        any_applied = False
        while self._pending_edits and self._pending_edits[0]["step"] <= self.position:
            apply_entry(self, self._pending_edits.pop(0), self._replay_masks)
            any_applied = True
        return any_applied

    def _log_setting_changes(self, position: int | None = None, **why: Any) -> None:
        """Log what has changed in the settings: by an edit, by assigning to a field of them, or by the job itself."""
        if self.job.settings != self._last_settings:
            changes = _changed_settings(self._last_settings, self.job.settings)
            self.edit_log.add(self.position if position is None else position, "edit", settings=changes, **why)
            self._last_settings = self.job.settings.model_copy()

    def _count_user_edits(self, snapshot: Snapshot) -> int:
        return sum("why" not in self.edit_log.entries[index] for index in snapshot.active_entries)

    def _take_snapshot(self) -> Snapshot:
        """A snapshot of the present; the current one if nothing has happened since."""
        return self.snapshots.take(
            self.position,
            self.edit_log.active_entries,
            lambda: (self.job.settings.model_dump(mode="json"), self.job.state_dict()),
        )

    def _restore_snapshot(self, snapshot: Snapshot) -> None:
        left_at = self.position
        state = self.snapshots.restore(snapshot)
        self.job.settings = PaintSettings.parse(snapshot.settings)
        self.job.load_state_dict(state)
        self._last_settings = self.job.settings.model_copy()
        self.edit_log.add(left_at, "go", to=snapshot.position, line=list(snapshot.active_entries))


def apply_entry(session: PaintSession, entry: LogEntry, masks: Mapping[str, Mask]) -> None:
    """Repeat a logged edit: any entry but "go". masks: by their names in the log."""
    mask = masks[entry["mask"]] if entry.get("mask") else None
    if entry["do"] == "edit":
        session.edit(entry["settings"])
    elif entry["do"] == "region":
        session.set_region(entry["prompt"], mask)
    elif entry["do"] == "protect":
        session.protect(mask)
    else:
        session.repaint(mask, entry["fresh"])


def _preview_of(job: PainterLike, settings: PaintSettings, state: Any) -> Image.Image:
    """The preview of another state of a job, which then continues from its own."""
    own_settings, own_state = job.settings, job.state_dict()
    try:
        job.settings = settings
        job.load_state_dict(state)
        return job.preview()
    finally:
        job.settings = own_settings
        job.load_state_dict(own_state)


def _stopped_at(record: Mapping[str, Any]) -> int | None:
    position, total = record.get("position"), record.get("total")
    if not isinstance(position, int) or position <= 0 or (isinstance(total, int) and position >= total):
        return None
    return position


def _changed_settings(before: PaintSettings, after: PaintSettings) -> dict[str, Any]:
    """The fields that differ, with their values in ``after`` as plain JSON."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {name: value for name, value in new.items() if old[name] != value}
