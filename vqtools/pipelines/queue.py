"""A folder of wishes, worked through while nobody watches: settings files and PNGs of ours become pictures.

Every wish has a lock, a state and a note of how far it is in the folder's `.queue`. So a queue that was killed goes on
where it was and does nothing twice, and two queues on one folder share the work. Knows files, jobs and words for
people; nothing about flags.
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

from vqtools.core.errors import UserError, shorten
from vqtools.core.files import atomic_write, check_writable, try_lock, write_text
from vqtools.core.job import run_job
from vqtools.core.paths import file_stem
from vqtools.core.state_file import load_state
from vqtools.media.image import load_picture
from vqtools.media.png_record import save_png
from vqtools.painting.image_inputs import refuse_file_paths, refuse_network_paths
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid import GridCell, draw_grid
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.presets import apply_preset
from vqtools.pipelines.queue_files import SUFFIXES, QueueItem, item_key, read_items
from vqtools.pipelines.queue_report import markdown_table, summarise
from vqtools.pipelines.reproduce import settings_from_record
from vqtools.pipelines.sample import SampleJob, create_sample_job
from vqtools.sampling.settings import SampleSettings

_MAX_ATTEMPTS = 3  # of a wish at which the whole program ended, without a step further
_SAVE_SECONDS = 30.0
_MAX_PICTURES_IN_REPORT = 64  # pictures on the sheet of the report
_FILE_FIELDS = ("init_image", "style_image", "complete", "mask", "condition")

Notify = Callable[[str], None]


class Queue:
    """What a folder asks for, and what has become of it.

    out: folder for the pictures and the report, ``done`` inside the folder without. trusted: open files that wishes
    name. changes: settings that count for every wish instead of its own.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        out: str | Path | None = None,
        trusted: bool = False,
        changes: Mapping[str, Any] | None = None,
        say: Notify = lambda line: None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{str(folder)!r} is no folder; expected one with settings files or PNGs of vqtools in it")
        self.out = Path(out) if out else self.folder / "done"
        if self.out.resolve() == self.folder.resolve():
            raise UserError("--out is the queue's own folder; what it makes would be wished for again: choose another")
        self.trusted, self.changes, self.say = trusted, dict(changes or {}), say
        self.notes = self.folder / ".queue"
        check_writable(self.notes)
        check_writable(self.out)
        self._threads = torch.get_num_threads()
        self._tried: set[str] = set()  # in this run: what failed is tried again in the next

    def run(self, stop: Callable[[], bool] = lambda: False, progress: bool = True) -> bool:
        """Work until nothing is left, new files included; False if stopped."""
        while not stop():
            wish = next(self._open(), None)
            if wish is None:
                self.report()
                return True
            if not self._take(wish, stop, progress):
                break
        self.report()
        return False

    def _open(self) -> Iterator[QueueItem]:
        """Wishes that are neither done, nor tried in this run, nor in another queue's hands."""
        for file in self._files():
            for wish in self._read(file):
                if wish.key not in self._tried and self.told(wish.key).get("status") != "done":
                    yield wish

    def _files(self) -> list[Path]:
        files = (
            one for one in self.folder.iterdir() if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")
        )
        return sorted(one for one in files if one.is_file())

    def _read(self, file: Path) -> list[QueueItem]:
        """The wishes of a file; one that is none is named, noted and passed over."""
        key = item_key("skipped", file.name)
        try:
            found = read_items(file, self.changes)
        except UserError as error:
            if self.told(key).get("reason") != str(error) or key not in self._tried:
                self._tried.add(key)
                self._note(key, {"file": file.name, "status": "skipped", "reason": str(error)})
                self.say(f"{file.name} is passed over: {error}")
            return []
        (self.notes / f"{key}.json").unlink(missing_ok=True)  # it has been mended
        return found

    def _take(self, wish: QueueItem, stop: Callable[[], bool], progress: bool) -> bool:
        """Make one wish true, if no other queue is at it; False if stopped."""
        self._tried.add(wish.key)
        with try_lock(self.notes / f"{wish.key}.lock") as ours:
            if not ours:
                self.say(f"{wish.name}: another queue is at it")
                return True
            told = self.told(wish.key)
            if told.get("status") == "done":  # by another, since we looked
                return True
            try:
                return self._make(wish, told, stop, progress)
            except KeyboardInterrupt:
                return False
            except Exception as error:  # the night is long, and the next wish has no part in it
                reason = (
                    str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {shorten(str(error))}"
                )
                told = {
                    **self.told(wish.key),
                    **_item_fields(wish),
                    "status": "failed",
                    "reason": reason,
                    "attempts": 0,
                }
                self._note(wish.key, told)
                self.say(f"{wish.name} failed: {reason}")
                self.report(sheet=False)
                return True

    def _make(self, wish: QueueItem, told: dict[str, Any], stop: Callable[[], bool], progress: bool) -> bool:
        state = self._state(wish.key)
        told = {**told, **_item_fields(wish), "status": "begun"}
        told.setdefault("seed", wish.fields.get("seed") or secrets.randbelow(2**32))
        told["attempts"] = told.get("attempts", 0) + 1
        if told["attempts"] > _MAX_ATTEMPTS:
            raise UserError(
                f"the program ended {_MAX_ATTEMPTS} times at this wish; make it smaller, or look what else uses the memory"
            )
        self._note(wish.key, told)  # before anything that may end the program
        going_on = state.exists()
        job = self._job(wish, int(told["seed"]), told.get("precision") if going_on else None)
        if going_on:
            job.load_state_dict(load_state(state))
            self.say(f"{wish.name}: goes on at step {job.position} of {job.total}")
        told |= {"settings": job.settings.model_dump(mode="json"), "total": job.total, "reason": ""}
        told["precision"] = job.record()["precision"]
        if "out" not in told:
            told["out"] = self._reserve_name(wish, told, job)
        self._note(wish.key, told)
        counted = _FirstStepNotifier(job, lambda: self._note(wish.key, {**told, "attempts": 0}))
        started = time.monotonic()
        finished = run_job(
            counted, label=wish.name, stop=stop, save=state, save_every_seconds=_SAVE_SECONDS, progress=progress
        )
        told |= {"attempts": 0, "position": job.position}
        told["seconds"] = told.get("seconds", 0.0) + time.monotonic() - started
        if not finished:
            self._note(wish.key, told)
            return False
        path = self.out / told["out"]
        save_png(path, job.picture(), {**job.record(), "queue": wish.name}, overwrite=True)
        self._note(wish.key, {**told, "status": "done", "when": time.strftime("%Y-%m-%d %H:%M")})
        state.unlink(missing_ok=True)
        self.say(f"{wish.name}: {path} ({told['seconds']:.0f} s)")
        self.report(sheet=False)
        return True

    def _job(self, wish: QueueItem, seed: int, precision: str | None = None) -> PaintSession | SampleJob:
        """precision: what a run that goes on began with; another one would draw other pictures from here on."""
        fields = {**wish.fields, "seed": seed}
        if self.trusted:
            fields |= {name: self._resolve_path(str(fields[name])) for name in _FILE_FIELDS if fields.get(name)}
        if wish.activity == "sample":
            if not self.trusted:
                refuse_file_paths(fields)
            return create_sample_job(SampleSettings.parse(fields).quick(), threads=self._threads)
        record, threads = dict(wish.record), wish.record.get("threads")
        replay = bool(record) and not self.changes
        if replay and "began" in record:  # the journal leads from these to those that the picture ended with
            record["settings"] = record["began"]
            fields = {**record["began"], "seed": seed}
        threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else self._threads
        if not self.trusted:
            refuse_network_paths(fields)  # before anything is loaded, and be it to measure a preset
        went = {} if precision is None or fields.get("precision", "auto") != "auto" else {"precision": precision}
        settings = PaintSettings.parse({**settings_from_record(record, {}), **apply_preset(fields), **went}).quick()
        return create_session(
            settings, threads=threads, record=record or {"settings": fields}, trusted=self.trusted, replay=replay
        )

    def _resolve_path(self, name: str) -> str:
        """A file that a wish names: as it is, or beside the wish."""
        return str(self.folder / name) if not Path(name).exists() and (self.folder / name).is_file() else name

    def _reserve_name(self, wish: QueueItem, told: Mapping[str, Any], job: PaintSession | SampleJob) -> str:
        """A name in the out folder that no other wish has, and no file."""
        prompt = str(wish.fields.get("prompt") or job.settings.prompt or "sample")
        stem = file_stem(prompt, job.settings.seed or 0)
        with FileLock(self.notes / "names.lock"):
            taken = {str(one.get("out")) for one in self.all()}
            number = 1
            while True:
                name = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
                if name not in taken and not (self.out / name).exists():
                    self._note(wish.key, {**told, "out": name})
                    return name
                number += 1

    # What is remembered.

    def _state(self, key: str) -> Path:
        return self.notes / f"{key}.safetensors"

    def told(self, key: str) -> dict[str, Any]:
        """What is noted of a wish; nothing where it was never begun."""
        try:
            found = json.loads((self.notes / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, key: str, told: Mapping[str, Any]) -> None:
        write_text(self.notes / f"{key}.json", json.dumps(told, ensure_ascii=True))

    def all(self) -> list[dict[str, Any]]:
        """What is noted of every wish, by file."""
        told = [self.told(path.stem) for path in self.notes.glob("*.json")]
        return sorted((one for one in told if one), key=lambda one: (str(one.get("file")), one.get("number", 0)))

    def report(self, sheet: bool = True) -> Path:
        """Write report.md, and beside it a sheet of the pictures; the report's path."""
        told = self.all()
        path = self.out / "report.md"
        write_text(path, "\n".join(["# What the queue did", "", summarise(told) + ".", "", *markdown_table(told), ""]))
        done = [one for one in told if one.get("status") == "done" and (self.out / one["out"]).is_file()][
            :_MAX_PICTURES_IN_REPORT
        ]
        if sheet and done:
            pictures = [load_picture(self.out / one["out"]) for one in done]
            cells = [GridCell("", str(one["out"]).removesuffix(".png"), PaintSettings()) for one in done]
            with atomic_write(self.out / "report.png") as temporary:
                draw_grid(cells, pictures).save(temporary, "PNG")
        return path


class _FirstStepNotifier:
    """A job that says once that it came a step further: it is not this wish that ends the program."""

    def __init__(self, job: PaintSession | SampleJob, further: Callable[[], None]) -> None:
        self._job, self._further, self._first = job, further, job.position
        self._said = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    @property
    def position(self) -> int:
        return self._job.position

    @property
    def total(self) -> int:
        return self._job.total

    def step(self) -> dict[str, float]:
        scalars = self._job.step()
        if not self._said and self.position > self._first + 1:
            self._said = True
            self._further()
        return scalars

    def preview(self) -> Image.Image | None:
        return self._job.preview()

    def state_dict(self) -> dict[str, Any]:
        return self._job.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._job.load_state_dict(state)


def _item_fields(wish: QueueItem) -> dict[str, Any]:
    return {"file": wish.file, "number": wish.number, "prompt": str(wish.fields.get("prompt", ""))}
