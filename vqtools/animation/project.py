"""An animation's folder, which is the whole project: settings, numbered frames, states to continue from, a log.

    settings.json   settings and networks
    frames/         frame-00000.png …, each with its record
    states/         000060.safetensors …
    log.csv
    .lock           held while frames are made

Every file is written under a temporary name and then renamed, so that a run can be killed at any time. Knows files;
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

VIDEO_FRAMES_FOLDER = "film"  # holds the frames of the user's own video
_LOCK_FILE = ".lock"
_NAMES_IN_EMPTY_PROJECT = {"settings.json", _LOCK_FILE, VIDEO_FRAMES_FOLDER}  # of a folder without results
_RECENT_STATES = 60  # the states of this many last frames are kept,
_STATE_INTERVAL = 30  # and of every so many-th frame before
_MAX_AUDIO_OFFSET = 1_000_000  # frames


class ProjectLockedError(UserError):
    """Another run makes frames in the folder."""


class Project:
    """A folder, opened or created. ``record`` is stored with every frame; it contains the settings."""

    def __init__(self, folder: str | Path, record: Mapping[str, Any]) -> None:
        self.folder, self.record = Path(folder), dict(record)
        self._requested: Path | None = None  # the name asked for, if this process creates the folder
        self._exists, self._locked = True, False

    @property
    def frames(self) -> Path:
        """The folder of the frames."""
        return self.folder / "frames"

    @classmethod
    def create(cls, folder: str | Path, record: Mapping[str, Any]) -> Project:
        """Create a new folder; a name that exists gets a number: -2, -3 and so on."""
        project = cls.create_lazily(folder, record)
        project.create_folder()
        return project

    @classmethod
    def create_lazily(cls, folder: str | Path, record: Mapping[str, Any]) -> Project:
        """As :meth:`create`, but nothing is written before :meth:`create_folder`."""
        requested = Path(folder)
        check_writable(requested.parent)
        project = cls(next(path for path in _candidate_paths(requested) if not path.exists()), record)
        project._requested, project._exists = requested, False
        return project

    def create_folder(self) -> None:
        """Create the folder if it was only planned."""
        if self._exists or self._requested is None:
            return
        for path in _candidate_paths(self._requested):
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                break
        self.folder, self._exists = path, True
        self.save()

    def discard_if_empty(self) -> bool:
        """Delete a folder of ours that holds no results yet; it is planned again. Returns whether it is gone."""
        if self._requested is None:
            return False
        if self._exists and {path.name for path in self.folder.iterdir()} <= _NAMES_IN_EMPTY_PROJECT:
            shutil.rmtree(self.folder)
            self._exists = False
        return not self._exists

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder if necessary and hold its lock. Raises ProjectLockedError if another run holds it."""
        self.create_folder()
        if self._locked:
            yield
            return
        with try_lock(self.folder / _LOCK_FILE) as acquired:
            if not acquired:
                raise ProjectLockedError(
                    f"folder {str(self.folder)!r} is in use by another run; stop that run or wait for its end, then"
                    " try again"
                )
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    @classmethod
    def open(cls, folder: str | Path) -> Project:
        """Open an existing folder. UserError if it holds no settings of an animation."""
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
        """Write the current record to settings.json, unless the folder is only planned."""
        if not self._exists:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record, indent=1, ensure_ascii=True, allow_nan=False)
        write_text(self.folder / "settings.json", text + "\n")

    @property
    def audio_offset(self) -> int:
        """The frame of the audio at which this animation starts: 0, except for a scene that is made on its own."""
        offset = self.record.get("heard_from", 0)
        return offset if type(offset) is int and 0 <= offset <= _MAX_AUDIO_OFFSET else 0

    def check_free_space(self, needed: int) -> None:
        """Raise UserError if the disk has less than that many bytes free."""
        folder = self.folder.absolute()
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        if needed > free:
            raise UserError(
                f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free on the disk of"
                f" {str(self.folder)!r}; make fewer frames, or choose another folder"
            )

    def save_frame(self, number: int, picture: Image, record: Mapping[str, Any], folder: str = "frames") -> Path:
        """Write a frame with the project's record and its own; an existing frame is replaced."""
        path = self.folder / folder / frame_name(number)
        return save_png(path, picture, {**self.record, **record, "frame": number}, overwrite=True)

    def save_state(self, position: int, state: Mapping[str, Any]) -> None:
        """Write the state after ``position`` frames, and delete an old one that is no longer needed."""
        save_state(self._state_path(position), dict(state))
        old = position - _RECENT_STATES
        if old > 0 and old % _STATE_INTERVAL:
            self._state_path(old).unlink(missing_ok=True)

    def _state_path(self, position: int) -> Path:
        return self.folder / "states" / f"{position:06d}.safetensors"

    def positions(self) -> list[int]:
        """The numbers of frames after which a state is kept, in order."""
        paths = (self.folder / "states").glob("*.safetensors")
        return sorted(int(path.stem) for path in paths if path.stem.isdecimal())

    def load_state(self) -> dict[str, Any] | None:
        """The newest state, or None if there is none."""
        positions = self.positions()
        return load_state(self._state_path(positions[-1])) if positions else None

    def rewind(self, frames: int) -> int:
        """Delete at least the last ``frames`` frames, back to the nearest state; returns how many frames are left."""
        positions = self.positions()
        if not positions:
            return 0
        target = positions[-1] - frames
        left = max((position for position in positions if position <= target), default=0)
        for position in positions:
            if position > left:
                self._state_path(position).unlink(missing_ok=True)
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
        """Remove the lines of frames that will be made again, and an incomplete last line."""
        path = self.folder / "log.csv"
        if path.exists():
            head, *lines = path.read_text("utf-8").splitlines(keepends=True) or ["frame\n"]
            kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) < position]
            write_text(path, head + "".join(kept))


def max_states(frames: int) -> int:
    """How many states the folder holds at most after that many frames."""
    return min(frames, _RECENT_STATES + frames // _STATE_INTERVAL)


def _candidate_paths(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def export_animation_video(project: Project, settings: AnimateSettings) -> WrittenVideo:
    """Write the video of the frames that exist, named after the folder; also after a run that was stopped."""
    path = project.folder / f"{project.folder.resolve().name}.{settings.format}"
    own_audio = (
        settings.video if settings.video and not settings.audio and probe_video(settings.video).has_audio else ""
    )
    return write_video(
        list_frames(project.frames),
        path,
        fps=settings.fps,
        out_fps=settings.out_fps,
        between=settings.between,
        sides=settings.odd_sides,
        crf=settings.crf,
        audio=settings.audio or own_audio or None,
        audio_from=project.audio_offset / settings.fps,
        closed=settings.loop,
    )
