"""Reading video files: size, frame rate and length, and their frames as pictures.

Knows files and ffmpeg (of the package imageio-ffmpeg); nothing about what the frames are used for.
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
from vqtools.media.video import frame_name

_MAX_FRAMES = 1_000_000


class VideoInfo(NamedTuple):
    """Properties of a video file. ``size`` is the displayed size: upright, with square pixels."""

    path: Path
    size: tuple[int, int]
    fps: float
    seconds: float
    has_audio: bool

    def frame_count(self, fps: float) -> int:
        """Return the number of frames at a frame rate."""
        return max(1, min(_MAX_FRAMES, math.floor(self.seconds * fps + 1e-3)))


def probe_video(path: str | Path) -> VideoInfo:
    """Read the properties of a video file. Raises UserError if it cannot be read."""
    path = Path(path)
    with _open_decoder(path, ["-frames:v", "1"]) as (process, log):
        assert process.stdout is not None
        process.stdout.read()
        text = _read_log(log)
    input_text, _, output_text = text.partition("Output #0")
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", input_text)
    rate = re.search(r"Video:.*?([\d.]+) (?:fps|tbr)", input_text)
    size = re.search(r"Video:.*?, (\d+)x(\d+)", output_text)
    if size is None or rate is None:
        raise UserError(f"video {str(path)!r} cannot be read ({_last_log_line(text)}); use mp4, webm, mov or gif")
    parts = length.groups() if length else (0, 0, 0)
    seconds = sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if not (seconds > 0 and float(rate[1]) > 0):
        raise UserError(f"video {str(path)!r} does not state its length; save it again as mp4")
    return VideoInfo(path, (int(size[1]), int(size[2])), float(rate[1]), seconds, "Audio:" in input_text)


def read_frames(path: str | Path, fps: float, limit: int) -> Iterator[Image.Image]:
    """Yield the first frames of a video at a frame rate, at most ``limit``, in the displayed size."""
    video = probe_video(path)
    frame_bytes = video.size[0] * video.size[1] * 3
    with _open_decoder(video.path, ["-frames:v", str(limit)], f"fps={fps:.6f}:round=near") as (process, log):
        assert process.stdout is not None
        for number in range(limit):
            data = process.stdout.read(frame_bytes)
            if len(data) < frame_bytes:
                if not number:
                    raise UserError(f"video {str(path)!r} cannot be read ({_last_log_line(_read_log(log))})")
                return
            yield Image.frombytes("RGB", video.size, data)


def extract_frames(path: str | Path, folder: Path, *, fps: float, limit: int, size: tuple[int, int]) -> int:
    """Write the frames of a video to a folder as PNG files, scaled and cropped to a size. Returns their number.

    Files that exist are kept, so that an interrupted extraction continues. Raises UserError if there are no frames.
    """
    count = 0
    for number, picture in enumerate(read_frames(path, fps, limit)):
        target = folder / frame_name(number)
        if not target.is_file():
            save_png(target, resize_and_crop(picture, size), {"film": Path(path).name, "frame": number}, overwrite=True)
        count = number + 1
    if not count:
        raise UserError(f"video {str(path)!r} contains no frame that can be read")
    return count


@contextlib.contextmanager
def _open_decoder(
    path: Path, options: list[str], filters: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start ffmpeg, which writes RGB frames (upright, with square pixels) to its stdout. Yields (process, log)."""
    import imageio_ffmpeg

    if not path.is_file():
        raise UserError(f"video {str(path)!r} is not there")
    chain = ",".join(part for part in (filters, "scale=iw*sar:ih,setsar=1") if part)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", str(path), "-vf", chain, *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "-an", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
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


def _last_log_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "nothing")[-100:]
