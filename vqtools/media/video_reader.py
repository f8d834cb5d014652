"""A person's own film: its rate, length and sound, and its frames as pictures.

Knows files and ffmpeg (the one that imageio-ffmpeg brings); nothing about what becomes of the frames.
"""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.image import resize_and_crop
from vqtools.media.png_record import save_png

_MAX_FRAMES = 1_000_000  # frames


class VideoInfo(NamedTuple):
    """A film's facts: ``size`` as it is shown, ``sound`` whether it has any."""

    path: Path
    size: tuple[int, int]
    fps: float
    seconds: float
    sound: bool

    def count(self, fps: float) -> int:
        """Frames that it has at a rate."""
        return max(1, min(_MAX_FRAMES, math.floor(self.seconds * fps + 1e-3)))


def probe_video(path: str | Path) -> VideoInfo:
    """A film's facts; UserError where there is none to be read."""
    path = Path(path)
    with _open_decoder(path, ["-frames:v", "1"]) as (process, log):
        assert process.stdout is not None
        process.stdout.read()
        said = _read_log(log)
    came, went = said.partition("Output #0")[::2]
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", came)
    rate = re.search(r"Video:.*?([\d.]+) (?:fps|tbr)", came)
    size = re.search(r"Video:.*?, (\d+)x(\d+)", went)
    if size is None or rate is None:
        raise UserError(f"film {str(path)!r} cannot be read ({_last_log_line(said)}); mp4, webm, mov and gif can")
    parts = length.groups() if length else (0, 0, 0)
    seconds = sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if not (seconds > 0 and float(rate[1]) > 0):
        raise UserError(f"film {str(path)!r} does not say how long it is; save it again as mp4")
    return VideoInfo(path, (int(size[1]), int(size[2])), float(rate[1]), seconds, "Audio:" in came)


def read_frames(path: str | Path, fps: float, most: int) -> Iterator[Image.Image]:
    """A film's first frames at a rate, each whole; fewer where it ends before."""
    clip = probe_video(path)
    length = clip.size[0] * clip.size[1] * 3
    with _open_decoder(clip.path, ["-frames:v", str(most)], f"fps={fps:.6f}:round=near") as (process, log):
        assert process.stdout is not None
        for number in range(most):
            data = process.stdout.read(length)
            if len(data) < length:
                if not number:
                    raise UserError(f"film {str(path)!r} cannot be read ({_last_log_line(_read_log(log))})")
                return
            yield Image.frombytes("RGB", clip.size, data)


@contextlib.contextmanager
def _open_decoder(
    path: Path, wanted: list[str], filters: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """ffmpeg, which writes RGB as it is to be seen (upright, pixels square), and what it says meanwhile."""
    import imageio_ffmpeg

    if not path.is_file():
        raise UserError(f"film {str(path)!r} is not there")
    seen = ",".join(part for part in (filters, "scale=iw*sar:ih,setsar=1") if part)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", str(path), "-vf", seen, *wanted]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "-an", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            yield process, log
        finally:
            assert process.stdout is not None
            process.stdout.close()
            process.kill()
            process.wait()


def _read_log(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode("utf-8", "replace")


def _last_log_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else "nothing")[-100:]


def extract_frames(path: str | Path, folder: Path, *, fps: float, most: int, size: tuple[int, int]) -> int:
    """Lay a film's frames into a folder as PNGs of one size, cut to its shape; returns how many there are.

    Those that are there stay as they are: whenever this was cut short, it goes on.
    """
    from vqtools.media.video import frame_name

    count = 0
    for number, picture in enumerate(read_frames(path, fps, most)):
        target = folder / frame_name(number)
        if not target.is_file():
            save_png(target, resize_and_crop(picture, size), {"film": Path(path).name, "frame": number}, overwrite=True)
        count = number + 1
    if not count:
        raise UserError(f"film {str(path)!r} holds no frame that can be read")
    return count
