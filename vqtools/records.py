"""What is written into a picture so that it can be made again, and what is read out of it.

Knows jobs, settings and machines; nothing about networks or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from vqtools import __version__
from vqtools.painting.settings import PRESETS
from vqtools.settings import Settings, UserError

if TYPE_CHECKING:
    from vqtools.device import Machine


class RecordedJob(Protocol):
    """A job that makes a picture."""

    machine: Machine
    models: dict[str, Any]

    @property
    def settings(self) -> Settings: ...
    @property
    def position(self) -> int: ...
    @property
    def total(self) -> int: ...


def build_record(job: RecordedJob, **more: Any) -> dict[str, Any]:
    """All that the same picture can be made from again, for the PNG."""
    import torch  # not for those who only read a record

    return {
        "format": 1,
        "vqtools": __version__,
        "torch": torch.__version__,
        "settings": job.settings.model_dump(mode="json"),
        "precision": job.machine.precision,
        "device": job.machine.device.type,
        "threads": job.machine.threads,
        "models": job.models,
        **more,
        "position": job.position,
        "total": job.total,
    }


def settings_from_record(record: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a record brings along; a preset among the ``fields`` that are set anew sets its own again."""
    if not record:
        return {}
    stored = record.get("settings")
    if not isinstance(stored, dict):
        raise UserError("the picture's record holds no settings; paint without --from")
    from vqtools.device import available_devices

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
