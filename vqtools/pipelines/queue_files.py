"""TODO: what this module is.

Split from vqtools.queueing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqtools.core.errors import UserError, shorten, shorten_error
from vqtools.core.settings import Settings
from vqtools.media.png_record import read_record
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid import read_cells
from vqtools.sampling.settings import SampleSettings

SUFFIXES = (".json", ".yaml", ".yml", ".png")


_MAX_BYTES = 2**20  # of a settings file


_MAX_ITEMS = 256  # in one file


@dataclass(frozen=True)
class QueueItem:
    """One picture to make. ``fields`` are settings; ``record`` is that of the PNG they came from, if they did."""

    file: str
    number: int  # in its file, from 1; 0 where it is alone
    activity: str  # paint or sample
    fields: Mapping[str, Any]
    record: Mapping[str, Any]
    key: str  # of name, content and changes: another wish, another key

    @property
    def name(self) -> str:
        return f"{self.file} ({self.number})" if self.number else self.file


def read_items(file: Path, changes: Mapping[str, Any] | None = None) -> list[QueueItem]:
    """What a file asks for. JSON or YAML: settings by name, or a list of such; ``activity: sample`` for the
    transformer alone, ``times: 4`` for four seeds. A PNG of ours: the same picture, or each one of its sheet."""
    changes = dict(changes or {})
    content = _read_bytes(file)
    record: dict[str, Any] = {}
    if file.suffix.lower() == ".png":
        record = read_record(file)
        entries = _record_entries(record, file)
    else:
        entries = [
            one for entry in _list_entries(_parse_file(file, content), file) for one in _repeat_entry(entry, file)
        ]
    if not 1 <= len(entries) <= _MAX_ITEMS:
        raise UserError(f"{len(entries)} pictures in one file: 1 to {_MAX_ITEMS} are possible")
    found = []
    for number, entry in enumerate(entries, 1):
        fields = {**entry, **changes}
        activity = str(fields.pop("activity", None) or "paint")
        kinds: dict[str, type[Settings]] = {"paint": PaintSettings, "sample": SampleSettings}
        kind = kinds.get(activity)
        if kind is None:
            raise UserError(f"activity {shorten(activity)}: a queue can paint and sample")
        kind.parse(fields)
        own = record if record.get("activity", "paint") == "paint" else {}
        key = item_key(file.name, content, number, json.dumps(changes, sort_keys=True, default=str))
        found.append(QueueItem(file.name, number if len(entries) > 1 else 0, activity, fields, own, key))
    return found


def _read_bytes(file: Path) -> bytes:
    try:
        if file.suffix.lower() != ".png" and file.stat().st_size > _MAX_BYTES:
            raise UserError("larger than a megabyte; expected settings, as JSON or YAML")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error})") from None


def _record_entries(record: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """Settings inside a PNG of ours."""
    activity = record.get("activity", "paint")
    if activity in ("drafts", "grid"):
        return [cell.settings.model_dump(mode="json") for cell in read_cells(record)]
    stored = record.get("settings")
    if activity not in ("paint", "sample") or "frame" in record or not isinstance(stored, dict):
        raise UserError(f"{file.name} was neither painted nor sampled; it can't be made again by a queue")
    return [{**stored, "activity": activity}]


def _parse_file(file: Path, content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
        if file.suffix.lower() == ".json":
            return json.loads(text)
        import yaml

        # an alias could make a small file endless
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UserError("YAML with aliases (*name) is not read; write the settings out")
        return yaml.safe_load(text)
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError("it is no text in UTF-8; save it as one") from None
    except RecursionError:
        raise UserError("it is nested too deeply; expected settings by name") from None
    except Exception as error:  # yaml's errors have a common ancestor that json's don't
        raise UserError(f"it can't be read as {file.suffix[1:].upper()} ({shorten_error(error)})") from None


def _list_entries(found: Any, file: Path) -> list[dict[str, Any]]:
    """The settings of a file, one for each picture or kind of picture."""
    entries = found if isinstance(found, list) else [found]
    for entry in entries:
        if not isinstance(entry, dict) or not entry or not all(isinstance(name, str) for name in entry):
            raise UserError(f'expected settings by name, as in {{"prompt": "a red apple"}}, not {shorten(entry)}')
    unfolded = []
    for entry in entries:
        inner = entry.get("settings")  # a record, as settings.json beside an animation has it
        unfolded.append({**inner, "activity": entry.get("activity")} if isinstance(inner, dict) else dict(entry))
    return unfolded


def _repeat_entry(entry: dict[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """`times: 4` is four wishes: with seeds one after another, or of none."""
    times = entry.pop("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= _MAX_ITEMS:
        raise UserError(f"times {shorten(times)}: must be a whole number, 1 to {_MAX_ITEMS}")
    seed = entry.get("seed")
    for turn in range(times):
        yield {**entry, "seed": seed + turn} if isinstance(seed, int) and times > 1 else dict(entry)


def item_key(*parts: Any) -> str:
    text = b"\0".join(part if isinstance(part, bytes) else str(part).encode("utf-8", "replace") for part in parts)
    return hashlib.sha256(text).hexdigest()[:20]
