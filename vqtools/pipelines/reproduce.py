"""TODO: what this module is.

Split from vqtools.onward, vqtools.records.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqtools.core.errors import UserError
from vqtools.media.png_record import read_record
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.pipelines.paint import create_session


def settings_from_record(record: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a record brings along; a preset among the ``fields`` that are set anew sets its own again."""
    if not record:
        return {}
    stored = record.get("settings")
    if not isinstance(stored, dict):
        raise UserError("the picture's record holds no settings; paint without --from")
    from vqtools.core.device import available_devices

    stored = dict(stored)
    # what "auto" chose then: another precision would paint another picture
    if stored.get("precision") == "auto" and record.get("device") == available_devices()[0] and "precision" in record:
        stored["precision"] = record["precision"]
    if "preset" in fields:
        for names in PRESETS.values():
            stored = {name: value for name, value in stored.items() if name not in names}
    return stored


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed since a picture was made that changes its pixels, in words."""
    notes = []
    for key in ("device", "precision", "threads", "torch"):
        if key in before and before[key] != now.get(key):
            notes.append(f"the picture was made with {key} {before[key]}, here it is {now.get(key)}; pixels may differ")
    for key in ("models", "inputs"):
        old, new = before.get(key), now.get(key)
        if not isinstance(old, dict) or not isinstance(new, dict):
            continue
        for name in sorted(old):
            if name in new and new[name] != old[name]:
                notes.append(f"{name.replace('_', ' ')} is not the one that the picture was made with; it will differ")
    return notes


def replay(source: str | Path, *, size: tuple[int, int] | None = None, trusted: bool = False) -> PaintSession:
    """The making of a picture of ours, from its PNG, as a job that follows its journal; at another size if asked."""
    record = read_record(source)
    if record.get("activity", "paint") != "paint":
        raise UserError(f"{source} was not painted; its making can't be told again")
    record = {**record, "settings": record.get("began", record.get("settings"))}
    fields = settings_from_record(record, {})
    if size is not None:
        fields["size"] = size
    threads = record.get("threads")
    threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
    return create_session(PaintSettings.parse(fields), threads=threads, record=record, trusted=trusted, replay=True)
