"""Reproduce a picture from the record inside its PNG: settings, differences to here, replay of its edits.

Knows records and settings; nothing about flags or panels. Except for :func:`replay` it does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError, shorten
from vqtools.painting.settings import PRESETS, PaintSettings

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession


def settings_from_record(record: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record, by field, for a new painting in which ``fields`` are set anew.

    A precision that was chosen by "auto" is replaced by the one that was used, if the device is the same. If ``fields``
    has a preset, the fields that presets set are left out.
    """
    if not record:
        return {}
    stored = record.get("settings")
    if not isinstance(stored, dict):
        raise UserError("the picture's record holds no settings; paint without --from")
    from vqtools.core.device import available_devices

    stored = dict(stored)
    # what "auto" chose then: another precision would make another picture
    if stored.get("precision") == "auto" and record.get("device") == available_devices()[0] and "precision" in record:
        stored["precision"] = record["precision"]
    if "preset" in fields:
        for names in PRESETS.values():
            stored = {name: value for name, value in stored.items() if name not in names}
    return stored


def with_initial_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a record whose settings are those that its edit log starts from, so that the edits can be replayed."""
    return {**record, "settings": record.get("began", record.get("settings"))}


def sample_fields_from_record(record: Mapping[str, Any], fields: Mapping[str, Any], *, trusted: bool) -> dict[str, Any]:
    """The settings in the record of a PNG made by ``sample``, with ``fields`` in place of some of them.

    Raises UserError if the PNG was made by anything else, or if its settings name files and are not ``trusted``.
    """
    if record.get("activity") != "sample" or not isinstance(record.get("settings"), dict):
        raise UserError("this picture was not made by vqtools sample; omit --from")
    if not trusted:
        from vqtools.painting.image_inputs import refuse_file_paths

        refuse_file_paths({name: value for name, value in record["settings"].items() if name not in fields})
    return {**record["settings"], **fields}


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Notes on the differences between two records of a picture that change its pixels: hardware, networks, inputs."""
    notes = [
        f"the picture was made with {key} {before[key]}, here it is {now.get(key)}; pixels may differ"
        for key in ("device", "precision", "threads", "torch")
        if key in before and before[key] != now.get(key)
    ]
    for key in ("models", "inputs"):
        old, new = before.get(key), now.get(key)
        if not isinstance(old, dict) or not isinstance(new, dict):
            continue
        notes += [
            f"{name.replace('_', ' ')} is not the one that the picture was made with; it will differ"
            for name in sorted(old)
            if name in new and new[name] != old[name]
        ]
    return notes


def initial_settings(record: Mapping[str, Any], *, size: tuple[int, int] | None = None) -> PaintSettings:
    """Settings that the run of a record began with, before its edits; at another size (width, height) if given.

    UserError if the record is not one of a painting.
    """
    if record.get("activity", "paint") != "paint":
        raise UserError(f"this picture was made by {shorten(record['activity'])}, not painted; it cannot be replayed")
    fields = settings_from_record(with_initial_settings(record), {})
    return PaintSettings.parse({**fields, "size": size} if size is not None else fields)


def replay(record: Mapping[str, Any], *, size: tuple[int, int] | None = None, trusted: bool = False) -> PaintSession:
    """A session that repeats the run of a record, edits included; its ``stop_at`` is where that run was stopped.

    record: of a PNG, see :func:`~vqtools.media.png_record.read_record`. size: another width and height in pixels.
    trusted: open files that only the record names.
    """
    from vqtools.pipelines.paint import create_session  # imports torch; the other functions do without

    return create_session(initial_settings(record, size=size), record=record, trusted=trusted, replay=True)
