"""A folder of settings files and PNGs, worked through unattended: each of them becomes a picture.

Every item has a lock, a saved state and a status file in the folder's `.queue`. A queue that was killed therefore
continues where it stopped and makes nothing twice, and several queues on one folder share the work. Knows files and
jobs; nothing about flags.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from PIL import Image

from vqtools.core.device import recorded_threads
from vqtools.core.errors import UserError, shorten
from vqtools.core.files import check_writable, try_lock, write_text
from vqtools.core.job import run_job
from vqtools.core.paths import file_stem
from vqtools.core.state_file import load_state
from vqtools.media.png_record import save_png
from vqtools.painting.image_inputs import FILE_FIELDS, refuse_file_paths, refuse_network_paths
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.presets import apply_preset
from vqtools.pipelines.queue_files import SUFFIXES, QueueItem, item_key, read_items
from vqtools.pipelines.queue_report import write_report
from vqtools.pipelines.reproduce import settings_from_record, with_initial_settings
from vqtools.pipelines.sample import SampleJob, create_sample_job
from vqtools.sampling.settings import SampleSettings

_MAX_ATTEMPTS = 3  # at an item during which the whole program ended, without one step of progress
_SAVE_SECONDS = 30.0

Notify = Callable[[str], None]
"""Takes one line about progress, to print or show."""


class Queue:
    """The items of a folder, and what has become of each.

    out: folder for the pictures and the report; by default ``done`` inside the folder. trusted: open files that items
    name. changes: settings for every item, in place of its own. notify: called with a line for each event.
    Raises UserError if the folder does not exist or cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        out: str | Path | None = None,
        trusted: bool = False,
        changes: Mapping[str, Any] | None = None,
        notify: Notify = lambda _line: None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(
                f"{str(folder)!r} is not a folder; expected one with settings files or PNGs made by vqtools"
            )
        self.out = Path(out) if out else self.folder / "done"
        if self.out.resolve() == self.folder.resolve():
            raise UserError("--out is the queue's own folder, where results would become new items; choose another")
        self.trusted, self.changes, self.notify = trusted, dict(changes or {}), notify
        self.status_folder = self.folder / ".queue"
        check_writable(self.status_folder)
        check_writable(self.out)
        self._threads = torch.get_num_threads()
        self._attempted: set[str] = set()  # keys of this run's items: a failed one is tried again in the next run only

    def run(self, stop: Callable[[], bool] = lambda: False, progress: bool = True) -> bool:
        """Work until no item is left, including files that are added meanwhile; False if stopped."""
        while not stop():
            item = next(self._open_items(), None)
            if item is None:
                self.report()
                return True
            if not self._run_item(item, stop, progress):
                break
        self.report()
        return False

    def status_of(self, key: str) -> dict[str, Any]:
        """The stored status of the item with that key; empty if it was never begun."""
        try:
            status = json.loads((self.status_folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def statuses(self) -> list[dict[str, Any]]:
        """The stored status of every item, sorted by file."""
        statuses = [self.status_of(path.stem) for path in self.status_folder.glob("*.json")]
        return sorted(filter(None, statuses), key=lambda status: (str(status.get("file")), status.get("number", 0)))

    def report(self, with_grid: bool = True) -> Path:
        """Write report.md and, with ``with_grid``, report.png beside it; returns the path of report.md."""
        return write_report(self.statuses(), self.out, with_grid=with_grid)

    def _open_items(self) -> Iterator[QueueItem]:
        """Yield the items that are neither done nor attempted in this run."""
        for file in self._files():
            for item in self._read(file):
                if item.key not in self._attempted and self.status_of(item.key).get("status") != "done":
                    yield item

    def _files(self) -> list[Path]:
        paths = (path for path in self.folder.iterdir() if not path.name.startswith("."))
        return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())

    def _read(self, file: Path) -> list[QueueItem]:
        """The items of a file; none if it cannot be read, which is reported and stored."""
        key = item_key("skipped", file.name)
        try:
            items = read_items(file, self.changes)
        except UserError as error:
            if self.status_of(key).get("reason") != str(error) or key not in self._attempted:
                self._attempted.add(key)
                self._write_status(key, {"file": file.name, "status": "skipped", "reason": str(error)})
                self.notify(f"{file.name} is skipped: {error}")
            return []
        (self.status_folder / f"{key}.json").unlink(missing_ok=True)  # the file has been corrected
        return items

    def _run_item(self, item: QueueItem, stop: Callable[[], bool], progress: bool) -> bool:
        """Make one item's picture, unless another queue is at it; False if stopped."""
        self._attempted.add(item.key)
        with try_lock(self.status_folder / f"{item.key}.lock") as locked:
            if not locked:
                self.notify(f"{item.name}: another queue is working on it")
                return True
            status = self.status_of(item.key)
            if status.get("status") == "done":  # by another queue, after ours read the folder
                return True
            try:
                return self._make_item(item, status, stop, progress)
            except KeyboardInterrupt:
                return False
            except Exception as error:  # whatever is wrong with this item, the others are still to be made
                known = isinstance(error, UserError)
                reason = str(error) if known else f"{type(error).__name__}: {shorten(str(error))}"
                failure = {"status": "failed", "reason": reason, "attempts": 0}
                self._write_status(item.key, {**self.status_of(item.key), **_item_fields(item), **failure})
                self.notify(f"{item.name} failed: {reason}")
                self.report(with_grid=False)
                return True

    def _make_item(self, item: QueueItem, status: Mapping[str, Any], stop: Callable[[], bool], progress: bool) -> bool:
        """Paint or sample one item from its start or its saved state, and save the picture; False if stopped."""
        status = self._begin(item, status)
        state_file = self.status_folder / f"{item.key}.safetensors"
        resumed = state_file.exists()
        job = self._create_job(item, int(status["seed"]), status.get("precision") if resumed else None)
        if resumed:
            job.load_state_dict(load_state(state_file))
            self.notify(f"{item.name}: continues at step {job.position} of {job.total}")
        status |= {"settings": job.settings.model_dump(mode="json"), "total": job.total, "reason": ""}
        status["precision"] = job.record()["precision"]
        if "out" not in status:
            status["out"] = self._reserve_name(item, status, job)
        self._write_status(item.key, status)
        watched = _FirstStepNotifier(job, lambda: self._write_status(item.key, {**status, "attempts": 0}))
        started = time.monotonic()
        finished = run_job(
            watched, label=item.name, stop=stop, save=state_file, save_every_seconds=_SAVE_SECONDS, progress=progress
        )
        status |= {"attempts": 0, "position": job.position}
        status["seconds"] = status.get("seconds", 0.0) + time.monotonic() - started
        if not finished:
            self._write_status(item.key, status)
            return False
        path = self.out / status["out"]
        save_png(path, job.picture(), {**job.record(), "queue": item.name}, overwrite=True)
        self._write_status(item.key, {**status, "status": "done", "when": time.strftime("%Y-%m-%d %H:%M")})
        state_file.unlink(missing_ok=True)
        self.notify(f"{item.name}: {path} ({status['seconds']:.0f} s)")
        self.report(with_grid=False)
        return True

    def _begin(self, item: QueueItem, status: Mapping[str, Any]) -> dict[str, Any]:
        """Store that an item is begun, with its seed, before anything that may end the program; returns its status.

        Raises UserError if the program has ended too often during this item.
        """
        begun = {**status, **_item_fields(item), "status": "begun", "attempts": status.get("attempts", 0) + 1}
        seed = item.fields.get("seed")
        begun.setdefault("seed", secrets.randbelow(2**32) if seed is None else seed)
        if begun["attempts"] > _MAX_ATTEMPTS:
            raise UserError(
                f"the program ended {_MAX_ATTEMPTS} times during this item; make it smaller, or check what else uses"
                " the memory"
            )
        self._write_status(item.key, begun)
        return begun

    def _create_job(self, item: QueueItem, seed: int, precision: str | None = None) -> PaintSession | SampleJob:
        """The job of an item. precision: what a resumed run began with; another one would give other pixels."""
        fields = {**item.fields, "seed": seed}
        if self.trusted:
            fields |= {name: self._resolve_path(str(fields[name])) for name in FILE_FIELDS if fields.get(name)}
        if item.activity == "sample":
            if not self.trusted:
                refuse_file_paths(fields)
            return create_sample_job(SampleSettings.parse(fields).quick(), threads=self._threads)
        record = dict(item.record)
        replay = bool(record) and not self.changes
        if replay and "began" in record:
            record = with_initial_settings(record)
            fields = {**record["settings"], "seed": seed}
        if not self.trusted:
            refuse_network_paths(fields)  # before anything is loaded, even to measure a preset
        complete = {**settings_from_record(record, {}), **apply_preset(fields)}
        if precision is not None and fields.get("precision", "auto") == "auto":
            complete["precision"] = precision
        return create_session(
            PaintSettings.parse(complete).quick(),
            threads=recorded_threads(record) or self._threads,
            record=record or {"settings": fields},
            trusted=self.trusted,
            replay=replay,
        )

    def _resolve_path(self, name: str) -> str:
        """The path of a file that an item names: as it is, or in the queue's folder."""
        return str(self.folder / name) if not Path(name).exists() and (self.folder / name).is_file() else name

    def _reserve_name(self, item: QueueItem, status: Mapping[str, Any], job: PaintSession | SampleJob) -> str:
        """Store and return a name in the out folder that neither another item nor a file has."""
        prompt = str(item.fields.get("prompt") or job.settings.prompt or "sample")
        stem = file_stem(prompt, job.settings.known_seed)
        with FileLock(self.status_folder / "names.lock"):
            taken = {str(other.get("out")) for other in self.statuses()}
            number = 1
            while True:
                name = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
                if name not in taken and not (self.out / name).exists():
                    self._write_status(item.key, {**status, "out": name})
                    return name
                number += 1

    def _write_status(self, key: str, status: Mapping[str, Any]) -> None:
        write_text(self.status_folder / f"{key}.json", json.dumps(status, ensure_ascii=True))


class _FirstStepNotifier:
    """A job that calls ``notify`` once, after its second step: it is then not this item that ends the program."""

    def __init__(self, job: PaintSession | SampleJob, notify: Callable[[], None]) -> None:
        self._job, self._notify, self._first = job, notify, job.position
        self._notified = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    @property
    def position(self) -> int:
        """Steps done."""
        return self._job.position

    @property
    def total(self) -> int:
        """Steps in all."""
        return self._job.total

    def step(self) -> dict[str, float]:
        """Do one step of the job."""
        scalars = self._job.step()
        if not self._notified and self.position > self._first + 1:
            self._notified = True
            self._notify()
        return scalars

    def preview(self) -> Image.Image | None:
        """The job's picture as it stands."""
        return self._job.preview()

    def state_dict(self) -> dict[str, Any]:
        """The job's state."""
        return self._job.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the job's state."""
        self._job.load_state_dict(state)


def _item_fields(item: QueueItem) -> dict[str, Any]:
    return {"file": item.file, "number": item.number, "prompt": str(item.fields.get("prompt", ""))}
