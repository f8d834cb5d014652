"""What a file in a queue's folder asks for: settings in JSON or YAML, or the record of a PNG.

Reads files into items with checked settings; knows nothing about locks, progress or painting.
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
"""Of the files that a queue reads."""

_MAX_BYTES = 2**20  # of a settings file
_MAX_ITEMS = 256  # in one file
_SETTINGS_CLASSES: dict[str, type[Settings]] = {"paint": PaintSettings, "sample": SampleSettings}


@dataclass(frozen=True)
class QueueItem:
    """One picture to make.

    file, number: where it stands; number counts from 1 in a file with several items, and is 0 in a file with one.
    activity: "paint" or "sample". fields: settings by name. record: of the PNG that the settings came from, else
    empty. key: a hash of name, content and changes; an item that differs in any of them has another key.
    """

    file: str
    number: int
    activity: str
    fields: Mapping[str, Any]
    record: Mapping[str, Any]
    key: str

    @property
    def name(self) -> str:
        """The item's name in messages: `a.json`, or `a.json (2)` in a file with several items."""
        return f"{self.file} ({self.number})" if self.number else self.file


def read_items(file: Path, changes: Mapping[str, Any] | None = None) -> list[QueueItem]:
    """Return the items that a file asks for, with ``changes`` in place of their own settings.

    JSON or YAML holds settings by name, or a list of such; ``activity: sample`` samples from the transformer alone, and
    ``times: 4`` makes four items with four seeds. A PNG of ours asks for the same picture again, and the PNG of a grid
    for each of its pictures. Raises UserError if the file cannot be read or a setting is wrong.
    """
    changes = dict(changes or {})
    content = _read_bytes(file)
    record: dict[str, Any] = {}
    if file.suffix.lower() == ".png":
        record = read_record(file)
        entries = _record_entries(record, file)
    else:
        entries = [item for entry in _list_entries(_parse_file(file, content)) for item in _repeat_entry(entry)]
    if not 1 <= len(entries) <= _MAX_ITEMS:
        raise UserError(f"{len(entries)} pictures in one file; must be 1 to {_MAX_ITEMS}")
    items = []
    for number, entry in enumerate(entries, 1):
        fields = {**entry, **changes}
        activity = str(fields.pop("activity", None) or "paint")
        if activity not in _SETTINGS_CLASSES:
            raise UserError(f"activity {shorten(activity)}: must be paint or sample")
        _SETTINGS_CLASSES[activity].parse(fields)
        item_record = record if record.get("activity", "paint") == "paint" else {}
        key = item_key(file.name, content, number, json.dumps(changes, sort_keys=True, default=str))
        items.append(QueueItem(file.name, number if len(entries) > 1 else 0, activity, fields, item_record, key))
    return items


def item_key(*parts: Any) -> str:
    """Return 20 hexadecimal digits of the SHA-256 of the parts; the same in every version, so that queues resume."""
    text = b"\0".join(part if isinstance(part, bytes) else str(part).encode("utf-8", "replace") for part in parts)
    return hashlib.sha256(text).hexdigest()[:20]


def _read_bytes(file: Path) -> bytes:
    try:
        if file.suffix.lower() != ".png" and file.stat().st_size > _MAX_BYTES:
            raise UserError("larger than a megabyte; expected settings, as JSON or YAML")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error})") from None


def _record_entries(record: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """The settings in a PNG of ours; of a grid, those of every picture."""
    activity = record.get("activity", "paint")
    if activity in ("drafts", "grid"):
        return [cell.settings.model_dump(mode="json") for cell in read_cells(record)]
    stored = record.get("settings")
    if activity not in ("paint", "sample") or "frame" in record or not isinstance(stored, dict):
        raise UserError(f"{file.name} was neither painted nor sampled; a queue cannot make it again")
    return [{**stored, "activity": activity}]


def _parse_file(file: Path, content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
        if file.suffix.lower() == ".json":
            return json.loads(text)
        import yaml

        # aliases can expand a small file to one of any size
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UserError("YAML with aliases (*name) is not accepted; write the settings out")
        return yaml.safe_load(text)
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError("it is not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise UserError("it is nested too deeply; expected settings by name") from None
    except Exception as error:  # the errors of json and yaml have no common base class
        raise UserError(f"it is not valid {file.suffix[1:].upper()} ({shorten_error(error)})") from None


def _list_entries(parsed: Any) -> list[dict[str, Any]]:
    """The entries of a settings file, one for each picture or each kind of picture."""
    entries = parsed if isinstance(parsed, list) else [parsed]
    for entry in entries:
        if not isinstance(entry, dict) or not entry or not all(isinstance(name, str) for name in entry):
            raise UserError(f'expected settings by name, as in {{"prompt": "a red apple"}}, not {shorten(entry)}')
    flattened = []
    for entry in entries:
        inner = entry.get("settings")  # a record, such as settings.json in the folder of an animation
        flattened.append({**inner, "activity": entry.get("activity")} if isinstance(inner, dict) else dict(entry))
    return flattened


def _repeat_entry(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an entry with `times: 4` four times: with consecutive seeds if it has one, else without a seed."""
    times = entry.pop("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= _MAX_ITEMS:
        raise UserError(f"times {shorten(times)}: must be a whole number, 1 to {_MAX_ITEMS}")
    seed = entry.get("seed")
    for offset in range(times):
        yield {**entry, "seed": seed + offset} if isinstance(seed, int) and times > 1 else dict(entry)
