"""What was done to a picture while it formed, in the order in which it was done, as plain JSON.

Knows entries and masks; nothing about pictures. A journal out of somebody's PNG is checked before it is followed.
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

_ENTRY_KEYS: dict[str, set[str]] = {  # beside "step" and "do"
    "edit": {"settings", "why"},
    "region": {"prompt", "mask"},
    "protect": {"mask"},
    "repaint": {"mask", "fresh"},
    "go": {"to", "line"},
}
_MAX_ENTRIES = 5000
_MAX_STEP = 2**31
_MAX_MASK_BYTES = 2 * 2**20  # in all; a record of 4 MB is read back


class EditLog:
    """Entries ``{"step": …, "do": …}``; masks by the hash of their content; ``line``, the entries that are in force.

    do: "edit" (``settings``: what changed), "region" (``prompt`` from 0, ``mask``), "protect" (``mask``), "repaint"
    (``mask``, ``fresh``), and "go" (``to`` a step on another line, whose entries ``line`` names by number).
    """

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.masks: dict[str, Mask] = {}
        self.line: tuple[int, ...] = ()

    def add(self, step: int, do: str, *, mask: Mask | None = None, **more: Any) -> None:
        """Write down what is being done at a step."""
        entry: LogEntry = {"step": step, "do": do, **more}
        if "mask" in _ENTRY_KEYS[do]:
            entry["mask"] = mask.name if mask else None
        if mask:
            others = sum(len(one.png) for name, one in self.masks.items() if name != mask.name)
            if others + len(mask.png) > _MAX_MASK_BYTES:
                raise UserError(
                    "so many strokes no longer fit into the picture's record; save, and begin from the picture"
                )
            self.masks[mask.name] = mask
        if len(self.entries) >= _MAX_ENTRIES:
            raise UserError(f"{_MAX_ENTRIES} edits are the most that a record holds; save, and begin from the picture")
        self.entries.append(entry)
        if do == "go":
            self.line = tuple(entry["line"])
        else:
            self.line = (*self.line, len(self.entries) - 1)

    def script(self) -> list[LogEntry]:
        """The entries in force, in the order of their steps: doing them again makes the picture again."""
        return [self.entries[index] for index in self.line]

    def record(self) -> dict[str, Any]:
        """For the PNG; nothing where nothing was done."""
        if not self.entries:
            return {}
        masks = {name: base64.b64encode(mask.png).decode() for name, mask in self.masks.items()}
        return {"journal": self.entries, "masks": masks}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> EditLog:
        """The journal of a PNG's record, empty where there is none; UserError where it is not one of ours."""
        entries, masks = record.get("journal", []), record.get("masks", {})
        if not isinstance(entries, list) or not isinstance(masks, Mapping) or len(entries) > _MAX_ENTRIES:
            raise _invalid_log("it is no list of edits")
        journal = cls()
        journal.masks = {str(name): _decode_mask(name, text) for name, text in masks.items()}
        for entry in entries:
            journal._take(entry)
        return journal

    def _take(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not {"step", "do"} <= set(entry) or entry["do"] not in _ENTRY_KEYS:
            raise _invalid_log(f"{shorten(entry)} is no edit")
        if unknown := set(entry) - _ENTRY_KEYS[entry["do"]] - {"step", "do"}:
            raise _invalid_log(f"{entry['do']} with {shorten(sorted(map(str, unknown)))}")
        if not _is_count(entry["step"]):
            raise _invalid_log(f"step {shorten(entry['step'])}")
        last = self.entries[-1]["step"] if self.entries and entry["do"] != "go" else 0
        if self.entries and self.entries[-1]["do"] == "go":
            last = self.entries[-1]["to"]
        if entry["do"] != "go" and entry["step"] < last:
            raise _invalid_log(f"step {entry['step']} comes after step {last}")
        getattr(self, f"_take_{entry['do']}")(entry)
        index = len(self.entries)
        self.entries.append(entry)
        self.line = tuple(entry["line"]) if entry["do"] == "go" else (*self.line, index)

    def _take_edit(self, entry: LogEntry) -> None:
        check_edit(entry.get("settings"))

    def _take_region(self, entry: LogEntry) -> None:
        if not _is_count(entry.get("prompt")):
            raise _invalid_log(f"prompt {shorten(entry.get('prompt'))}")
        self._take_protect(entry)

    def _take_protect(self, entry: LogEntry) -> None:
        if entry.get("mask") is not None and entry["mask"] not in self.masks:
            raise _invalid_log(f"the mask {shorten(entry['mask'])} is missing")

    def _take_repaint(self, entry: LogEntry) -> None:
        if entry.get("mask") not in self.masks or not isinstance(entry.get("fresh"), bool):
            raise _invalid_log(f"{shorten(entry)} paints nothing anew")

    def _take_go(self, entry: LogEntry) -> None:
        line = entry.get("line")
        known = range(len(self.entries))
        if not _is_count(entry.get("to")) or not isinstance(line, list):
            raise _invalid_log(f"{shorten(entry)} leads nowhere")
        if not all(_is_count(one) and one in known and self.entries[one]["do"] != "go" for one in line):
            raise _invalid_log(f"{shorten(line)} names edits that are not there")
        steps = [self.entries[one]["step"] for one in line]
        if line != sorted(set(line)) or steps != sorted(steps) or any(step > entry["to"] for step in steps):
            raise _invalid_log(f"the edits {shorten(line)} are in no order")


def check_edit(changes: Any) -> None:
    """UserError unless all of it are settings that may change in mid-run, with values that they may have."""
    if not isinstance(changes, Mapping) or not changes:
        raise _invalid_log(f"{shorten(changes)} changes nothing")
    options = {one.name: one for one in PaintSettings.options()}
    for name in changes:
        if name in options and not options[name].live:
            raise UserError(f"{name} can't be changed in mid-run; it takes effect from the next run")
    if problems := PaintSettings.problems(changes):
        raise UserError("; ".join(problems.values()))


def _decode_mask(name: Any, text: Any) -> Mask:
    try:
        mask = Mask.read(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError) as error:
        raise _invalid_log(str(error)) from None
    if mask.name != name:
        raise _invalid_log(f"the mask {shorten(name)} is not what its name says")
    return mask


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_STEP


def _invalid_log(why: str) -> UserError:
    return UserError(f"the journal inside the picture can't be followed ({why}); paint from its settings alone")
