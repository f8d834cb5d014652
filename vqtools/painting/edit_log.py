"""The edit log: what was done to a picture during its run, in the order in which it was done, as plain JSON.

Knows entries and masks; nothing about pictures. A log from a PNG may come from a stranger: it is checked before use.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from vqtools.core.errors import UserError, shorten
from vqtools.painting.masks import Mask
from vqtools.painting.settings import PaintSettings

LogEntry = dict[str, Any]

_ENTRY_KEYS: dict[str, set[str]] = {  # by the value of "do"; "step" and "do" come in addition
    "edit": {"settings", "why"},
    "region": {"prompt", "mask"},
    "protect": {"mask"},
    "repaint": {"mask", "fresh"},
    "go": {"to", "line"},
}
_MAX_ENTRIES = 5000
_MAX_STEP = 2**31
_MAX_MASK_BYTES = 2 * 2**20  # of all masks together; a record of more than 4 MB is not read back


class EditLog:
    """Entries ``{"step": …, "do": …}``, and masks by the hash of their content.

    do: "edit" (``settings``: the changed fields; ``why``: "memory" if no user made the edit), "region" (``prompt`` from
    0, ``mask``), "protect" (``mask``), "repaint" (``mask``, ``fresh``), or "go" (``to``: a step on another branch,
    ``line``: the numbers of the entries that lead there). ``active_entries`` are the numbers of the entries in force.
    """

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.masks: dict[str, Mask] = {}
        self.active_entries: tuple[int, ...] = ()

    def add(self, step: int, do: str, *, mask: Mask | None = None, **values: Any) -> None:
        """Append what is done at a step; UserError if the log is full."""
        entry: LogEntry = {"step": step, "do": do, **values}
        if "mask" in _ENTRY_KEYS[do]:
            entry["mask"] = mask.name if mask else None
        if mask:
            others = sum(len(other.png) for name, other in self.masks.items() if name != mask.name)
            if others + len(mask.png) > _MAX_MASK_BYTES:
                raise UserError(
                    f"the masks exceed the {_MAX_MASK_BYTES // 2**20} MB that a picture's record can hold; save the"
                    " picture and start from it"
                )
            self.masks[mask.name] = mask
        if len(self.entries) >= _MAX_ENTRIES:
            raise UserError(f"a record holds at most {_MAX_ENTRIES} edits; save the picture and start from it")
        self._append(entry)

    def active(self) -> list[LogEntry]:
        """The entries in force, in the order of their steps: applying them repeats the run."""
        return [self.entries[index] for index in self.active_entries]

    def record(self) -> dict[str, Any]:
        """For the PNG: the entries and the masks as base64; empty if there are no entries."""
        if not self.entries:
            return {}
        masks = {name: base64.b64encode(mask.png).decode() for name, mask in self.masks.items()}
        return {"journal": self.entries, "masks": masks}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> EditLog:
        """The log of a PNG's record, empty if there is none; UserError if it is invalid."""
        entries, masks = record.get("journal", []), record.get("masks", {})
        if not isinstance(entries, list) or not isinstance(masks, Mapping) or len(entries) > _MAX_ENTRIES:
            raise _invalid_log("it is not a list of edits")
        log = cls()
        log.masks = {str(name): _decode_mask(name, text) for name, text in masks.items()}
        for entry in entries:
            log._append_checked(entry)
        return log

    def _append(self, entry: LogEntry) -> None:
        self.entries.append(entry)
        index = len(self.entries) - 1
        self.active_entries = tuple(entry["line"]) if entry["do"] == "go" else (*self.active_entries, index)

    def _append_checked(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not {"step", "do"} <= set(entry) or str(entry["do"]) not in _ENTRY_KEYS:
            raise _invalid_log(f"{shorten(entry)} is not an edit")
        do = str(entry["do"])
        if unknown := set(entry) - _ENTRY_KEYS[do] - {"step", "do"}:
            raise _invalid_log(f"{do} with {shorten(sorted(map(str, unknown)))}")
        if not _is_count(entry["step"]):
            raise _invalid_log(f"step {shorten(entry['step'])}")
        last = self.entries[-1] if self.entries else {"step": 0, "do": ""}
        earliest = last["to"] if last["do"] == "go" else last["step"]
        if do != "go" and entry["step"] < earliest:
            raise _invalid_log(f"step {entry['step']} comes after step {earliest}")
        checks = {
            "edit": self._check_edit, "region": self._check_region, "protect": self._check_mask,
            "repaint": self._check_repaint, "go": self._check_go,
        }  # fmt: skip
        checks[do](entry)
        self._append(entry)

    @staticmethod
    def _check_edit(entry: LogEntry) -> None:
        check_edit(entry.get("settings"))

    def _check_region(self, entry: LogEntry) -> None:
        if not _is_count(entry.get("prompt")):
            raise _invalid_log(f"prompt {shorten(entry.get('prompt'))}")
        self._check_mask(entry)

    def _check_mask(self, entry: LogEntry) -> None:
        if entry.get("mask") is not None and not self._has_mask(entry["mask"]):
            raise _invalid_log(f"the mask {shorten(entry['mask'])} is missing")

    def _has_mask(self, name: Any) -> bool:
        return isinstance(name, str) and name in self.masks

    def _check_repaint(self, entry: LogEntry) -> None:
        if not self._has_mask(entry.get("mask")) or not isinstance(entry.get("fresh"), bool):
            raise _invalid_log(f"{shorten(entry)} has no mask, or no true or false as fresh")

    def _check_go(self, entry: LogEntry) -> None:
        line = entry.get("line")
        known = range(len(self.entries))
        if not _is_count(entry.get("to")) or not isinstance(line, list):
            raise _invalid_log(f"{shorten(entry)} has no step to go to")
        if not all(_is_count(index) and index in known and self.entries[index]["do"] != "go" for index in line):
            raise _invalid_log(f"{shorten(line)} names edits that do not exist")
        steps = [self.entries[index]["step"] for index in line]
        if line != sorted(set(line)) or steps != sorted(steps) or any(step > entry["to"] for step in steps):
            raise _invalid_log(f"the edits {shorten(line)} are not in order")


def check_edit(changes: Any) -> None:
    """Raise UserError unless ``changes`` maps live fields of PaintSettings to valid values."""
    if not isinstance(changes, Mapping) or not changes:
        raise _invalid_log(f"{shorten(changes)} changes nothing")
    for name in changes:
        if name in PaintSettings.model_fields and name not in PaintSettings.live_fields():
            raise UserError(f"{name} cannot be changed during a run; it takes effect from the next run")
    if problems := PaintSettings.problems(changes):
        raise UserError("; ".join(problems.values()))


def _decode_mask(name: Any, text: Any) -> Mask:
    try:
        mask = Mask.from_png(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError) as error:
        raise _invalid_log(str(error)) from None
    if mask.name != name:
        raise _invalid_log(f"the mask {shorten(name)} does not match its hash")
    return mask


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_STEP


def _invalid_log(reason: str) -> UserError:
    return UserError(f"the picture's edit log is invalid ({reason}); paint from its settings instead")
