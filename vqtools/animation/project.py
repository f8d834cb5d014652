"""An animation's folder: its settings, numbered frames, states to go on from, a log. The folder is the project.

    settings.json   settings and networks         frames/frame-00000.png …   states/000060.safetensors …   log.csv
    .lock           held while frames are made

Everything is written to a temporary name, then renamed: whenever a run is killed, what is there is whole. Knows files;
nothing about how frames are made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image

from vqtools.animation.settings import AnimateSettings
from vqtools.core.errors import UserError, shorten_error
from vqtools.core.files import check_writable, try_lock, write_text
from vqtools.core.state_file import load_state, save_state
from vqtools.media.png_record import save_png
from vqtools.media.video import WrittenVideo, frame_name, list_frames, numbered_frames, write_video
from vqtools.media.video_reader import probe_video

_KEPT = 60
_EVERY = 30  # states of the last frames are kept, and now and then one before
_LOCK_FILE = ".lock"
VIDEO_FRAMES_FOLDER = "film"  # where in the folder the frames of a film of one's own lie
_NAMES_IN_EMPTY_PROJECT = {
    "settings.json",
    _LOCK_FILE,
    VIDEO_FRAMES_FOLDER,
}  # what a folder holds in which nothing was made yet


class ProjectLockedError(UserError):
    """Another run makes frames in the folder."""


class Project:
    """A folder, opened or made. ``record`` is what every frame carries, ``settings`` are part of it."""

    def __init__(self, folder: str | Path, record: Mapping[str, Any]) -> None:
        self.folder, self.record = Path(folder), dict(record)
        self._wanted: Path | None = None  # of a folder that we make: what it was to be named
        self._there, self._held = True, False

    @property
    def frames(self) -> Path:
        return self.folder / "frames"

    @classmethod
    def create(cls, folder: str | Path, record: Mapping[str, Any]) -> Project:
        """A new folder; one that is taken gets -2, -3, …"""
        project = cls.create_lazily(folder, record)
        project.create_folder()
        return project

    @classmethod
    def create_lazily(cls, folder: str | Path, record: Mapping[str, Any]) -> Project:
        """The same, not made before :meth:`create_folder`: until then nothing is written."""
        wanted = Path(folder)
        check_writable(wanted.parent)
        project = cls(next(path for path in _candidate_paths(wanted) if not path.exists()), record)
        project._wanted, project._there = wanted, False
        return project

    def create_folder(self) -> None:
        """Make the folder, if it is only planned."""
        if self._there or self._wanted is None:
            return
        for path in _candidate_paths(self._wanted):
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                break
        self.folder, self._there = path, True
        self.save()

    def discard_if_empty(self) -> bool:
        """Whether nothing was made yet in a folder of ours, which is then taken away, and planned again."""
        if self._wanted is None:
            return False
        if self._there and {path.name for path in self.folder.iterdir()} <= _NAMES_IN_EMPTY_PROJECT:
            shutil.rmtree(self.folder)
            self._there = False
        return not self._there

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made if it was planned, for the time; UserError where another run holds it."""
        self.create_folder()
        if self._held:
            yield
            return
        with try_lock(self.folder / _LOCK_FILE) as ours:
            if not ours:
                raise ProjectLockedError(
                    f"folder {str(self.folder)!r} is in the hands of another run; stop that one, or wait for its end,"
                    " and say this again"
                )
            self._held = True
            try:
                yield
            finally:
                self._held = False

    @classmethod
    def open(cls, folder: str | Path) -> Project:
        """A folder made before; UserError where it is none."""
        path = Path(folder) / "settings.json"
        try:
            record = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(f"folder {str(folder)!r} holds no animation; expected a settings.json in it") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({shorten_error(error)})") from None
        if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
            raise UserError(f"{path} holds no settings of an animation")
        return cls(folder, record)

    def save(self) -> None:
        """Write the record, as it is now, to settings.json; nothing in a folder that is only planned."""
        if not self._there:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record, indent=1, ensure_ascii=True, allow_nan=False)
        write_text(self.folder / "settings.json", text + "\n")

    @property
    def audio_offset(self) -> int:
        """The frame of the sound at which this animation begins: 0, but for a scene that was made apart."""
        told = self.record.get("heard_from", 0)
        return told if type(told) is int and 0 <= told <= 1_000_000 else 0

    def check_free_space(self, wanted: int) -> None:
        """UserError where the disk has less room than that many bytes."""
        place = self.folder.absolute()
        free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
        if wanted > free:
            raise UserError(
                f"{wanted / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free on the disk of"
                f" {str(self.folder)!r}; take fewer frames or another folder"
            )

    def save_frame(self, number: int, picture: Image, about: Mapping[str, Any], folder: str = "frames") -> Path:
        path = self.folder / folder / frame_name(number)
        return save_png(path, picture, {**self.record, **about, "frame": number}, overwrite=True)

    def save_state(self, position: int, state: Mapping[str, Any]) -> None:
        """Write the state in which ``position`` frames are done, and forget some that nobody will want."""
        save_state(self._state(position), dict(state))
        old = position - _KEPT
        if old > 0 and old % _EVERY:
            self._state(old).unlink(missing_ok=True)

    def _state(self, position: int) -> Path:
        return self.folder / "states" / f"{position:06d}.safetensors"

    def positions(self) -> list[int]:
        """The numbers of frames from which a run can go on, in order."""
        paths = (self.folder / "states").glob("*.safetensors")
        return sorted(int(path.stem) for path in paths if path.stem.isdecimal())

    def load_state(self) -> dict[str, Any] | None:
        """The newest state, or None at the very beginning."""
        positions = self.positions()
        return load_state(self._state(positions[-1])) if positions else None

    def rewind(self, frames: int) -> int:
        """Throw the last frames away; returns how many are left: to the nearest state kept at or before there."""
        positions = self.positions()
        if not positions:
            return 0
        target = positions[-1] - frames
        left = max((position for position in positions if position <= target), default=0)
        for position in positions:
            if position > left:
                self._state(position).unlink(missing_ok=True)
        for number, path in numbered_frames(self.frames).items():
            if number >= left:
                path.unlink()
        return left

    def log(self, position: int, row: Mapping[str, float]) -> None:
        """Append a line to log.csv."""
        path = self.folder / "log.csv"
        if not path.exists():
            write_text(path, ",".join(["frame", *row]) + "\n")
        with open(path, "a", encoding="utf-8") as file:
            file.write(",".join([str(position), *(f"{value:.6g}" for value in row.values())]) + "\n")

    def trim_log(self, position: int) -> None:
        """Take out the lines of frames that will be made again, and one that was cut off."""
        path = self.folder / "log.csv"
        if path.exists():
            head, *lines = path.read_text("utf-8").splitlines(keepends=True) or ["frame\n"]
            kept = [one for one in lines if one.endswith("\n") and int(one.split(",")[0]) < position]
            write_text(path, head + "".join(kept))


def _candidate_paths(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in itertools.count(2):
        yield wanted.with_name(f"{wanted.name}-{number}")


def export_animation_video(project: Project, settings: AnimateSettings) -> WrittenVideo:
    """The video of the frames that are there, named after the folder; also of a run that was stopped."""
    path = project.folder / f"{project.folder.resolve().name}.{settings.format}"
    own = settings.video if settings.video and not settings.audio and probe_video(settings.video).sound else ""
    return write_video(
        list_frames(project.frames), path, fps=settings.fps, out_fps=settings.out_fps, between=settings.between,
        sides=settings.odd_sides, crf=settings.crf, audio=settings.audio or own or None,
        audio_from=project.audio_offset / settings.fps, closed=settings.loop,
    )  # fmt: skip
