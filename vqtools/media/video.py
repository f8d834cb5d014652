"""Writing numbered PNG frames as a video: mp4, webm or gif.

The frames are never changed or removed. Knows files and ffmpeg (of the package imageio-ffmpeg); nothing about how they
are made.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from vqtools.core.errors import UserError, shorten
from vqtools.core.files import atomic_write
from vqtools.media.image import from_uint8, load_picture, to_uint8

if TYPE_CHECKING:
    from IPython.display import DisplayObject

FrameInterpolation = Literal["none", "blend", "flow"]
OddSideMode = Literal["pad", "crop"]

_FRAME_NAME = re.compile(r"frame-(\d{5,})\.png")
VIDEO_FORMATS: dict[str, list[str]] = {
    ".mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "medium", "-movflags", "+faststart"],
    ".webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-b:v", "0", "-row-mt", "1", "-cpu-used", "4"],
    ".gif": [],
}
_AUDIO_CODECS = {".mp4": ["-c:a", "aac", "-b:a", "192k"], ".webm": ["-c:a", "libopus", "-b:a", "128k"]}
_CRF_OFFSETS = {".webm": 13}  # the CRF scale of VP9 differs from that of H.264: about the same quality


class WrittenVideo(NamedTuple):
    """A video file: its number of frames, its size, and the columns and rows added by padding (< 0: by cropping)."""

    path: Path
    frames: int
    size: tuple[int, int]
    padding: tuple[int, int]


def frame_name(number: int) -> str:
    """Return the file name of a frame, counted from 0: ``frame-00000.png``."""
    return f"frame-{number:05d}.png"


def numbered_frames(folder: str | Path) -> dict[int, Path]:
    """Return the frames in a folder by number, in order. Files with other names are ignored."""
    names = ((_FRAME_NAME.fullmatch(path.name), path) for path in Path(folder).glob("frame-*.png"))
    return dict(sorted((int(match[1]), path) for match, path in names if match))


def list_frames(folder: str | Path) -> list[Path]:
    """Return the frames of a folder in order. Raises UserError if there are none, or if a number is missing."""
    folder = Path(folder)
    frames = numbered_frames(folder)
    if not frames:
        raise UserError(f"folder {str(folder)!r} contains no frames; expected {frame_name(0)} and so on")
    numbers = list(frames)
    if missing := sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)):
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{frame_name(missing[0])}{others} is missing in {str(folder)!r}; render it with --resume")
    return list(frames.values())


def write_video(
    frames: Sequence[Path],
    path: str | Path,
    *,
    fps: float = 12.0,
    out_fps: float | None = None,
    between: FrameInterpolation = "none",
    sides: OddSideMode = "pad",
    crf: int = 17,
    audio: str | Path | None = None,
    audio_from: float = 0.0,
    loops: int = 0,
    closed: bool = False,
) -> WrittenVideo:
    """Encode pictures of one size as a video, atomically. The suffix of ``path`` selects the format.

    fps: frames per second of ``frames``.
    out_fps: frames per second of the video; frames are interpolated to reach it, unless ``between`` is "none".
    between: how to interpolate: "blend", or "flow" to move pixels along the optical flow.
    sides: whether an odd width or height, which mp4 and webm lack, is padded with its edge pixels or cropped.
    crf: constant rate factor of H.264; smaller is better and larger.
    audio: a file whose sound is added from the time ``audio_from`` in seconds, for the length of the video.
    loops: number of repetitions of a gif; 0 repeats it endlessly.
    closed: whether the last frame is followed by the first, and interpolated with it.

    Raises UserError for invalid options, frames of different sizes, and if ffmpeg fails.
    """
    path = Path(path)
    kind = path.suffix.lower()
    _check_options(frames, kind, fps, out_fps, between, audio)
    frame_size = load_picture(frames[0]).size
    padding = (0, 0) if kind == ".gif" else _even_padding(frame_size, sides)
    size = (frame_size[0] + padding[0], frame_size[1] + padding[1])
    if min(size) < 2:
        raise UserError(f"frames of {frame_size[0]}x{frame_size[1]} are too small for a video; at least 2x2 are needed")
    rate = fps if between == "none" or out_fps is None else out_fps
    arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{rate:.6g}", "-i", "-"]
    if audio is not None and kind in _AUDIO_CODECS:
        arguments += ["-ss", f"{audio_from:.6f}"] if audio_from else []
        arguments += ["-i", str(audio), "-map", "0:v", "-map", "1:a:0", *_AUDIO_CODECS[kind]]
    arguments += [*_colour_filters(kind), *VIDEO_FORMATS[kind]]
    arguments += ["-loop", str(loops)] if kind == ".gif" else ["-crf", str(min(63, crf + _CRF_OFFSETS.get(kind, 0)))]
    pictures = _load_frames(frames, frame_size)
    if rate != fps:
        pictures = _resample_frames(pictures, len(frames), rate / fps, between, closed)
    with atomic_write(path, suffix=kind) as temporary:
        output = ["-t", f"{len(frames) / fps:.6f}", str(temporary)]
        _encode([*arguments, *output], (_pad_or_crop(picture, padding) for picture in pictures))
        if not temporary.is_file() or not temporary.stat().st_size:
            raise UserError(f"ffmpeg left {path.name} empty; the frames are kept in {str(frames[0].parent)!r}")
    return WrittenVideo(path, len(frames), size, padding)


def video_widget(path: str | Path, width: int | None = None) -> DisplayObject:
    """Return a video (mp4, webm or gif) as the output of a notebook cell, embedded in the page: it also plays in Colab.

    The file is read at once and may be deleted afterwards.
    """
    from IPython.display import Image, Video

    data, kind = Path(path).read_bytes(), Path(path).suffix.lower().removeprefix(".")
    if kind == "gif":
        return Image(data=data, format="gif", width=width)  # type: ignore[no-untyped-call]
    attributes = "controls loop autoplay muted"
    return Video(  # type: ignore[no-untyped-call]
        data=data, embed=True, mimetype=f"video/{kind}", width=width, html_attributes=attributes
    )


def _check_options(
    frames: Sequence[Path], kind: str, fps: float, out_fps: float | None, between: str, audio: str | Path | None
) -> None:
    """Raise UserError for options of :func:`write_video` that are invalid."""
    if kind not in VIDEO_FORMATS:
        raise UserError(f"video suffix {kind!r}: must be one of {', '.join(VIDEO_FORMATS)}")
    if not frames:
        raise UserError("there are no frames; render some first")
    if not 0.1 <= fps <= 240:
        raise UserError(f"fps {fps:g}: must be 0.1 to 240")
    if between not in ("none", "blend", "flow"):
        raise UserError(f"between {shorten(between)}: must be none, blend or flow")
    if between != "none" and not (out_fps and fps < out_fps <= 240):
        raise UserError(f"out_fps {out_fps}: interpolation needs a rate above {fps:g}, at most 240")
    if audio is not None and not Path(audio).is_file():
        raise UserError(f"audio {str(audio)!r} is not there")


def _even_padding(size: tuple[int, int], sides: OddSideMode) -> tuple[int, int]:
    """Return the columns and rows to add (< 0: to remove) to make width and height even."""
    step = 1 if sides == "pad" else -1
    return size[0] % 2 * step, size[1] % 2 * step


def _colour_filters(kind: str) -> list[str]:
    """Return ffmpeg's arguments for the conversion of colours."""
    if kind == ".gif":
        steps = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=sierra2_4a"
        return ["-filter_complex", steps]
    # stated explicitly, so that every player shows the same colours
    return ["-vf", "scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709"]


def _load_frames(frames: Sequence[Path], size: tuple[int, int]) -> Iterator[Any]:
    """Yield each frame as an array (H, W, 3)."""
    import numpy as np

    for path in frames:
        picture = load_picture(path)
        if picture.size != size:
            raise UserError(
                f"{path.name} is {picture.width}x{picture.height}, the first frame {size[0]}x{size[1]};"
                " all frames of a video must have the same size"
            )
        yield np.asarray(picture)


def _resample_frames(
    pictures: Iterator[Any], count: int, factor: float, between: FrameInterpolation, closed: bool
) -> Iterator[Any]:
    """Yield ``factor`` times as many pictures as ``count``, those between two blended or warped.

    The last picture is held, or interpolated with the first if the video is closed.
    """
    first = before = next(pictures)
    after, flows = next(pictures, None), None
    index = 0  # of before
    for number in range(round(count * factor)):
        time = number / factor
        while time >= index + 1 and after is not None:
            before, after, flows, index = after, next(pictures, None), None, index + 1
        target = after if after is not None else first if closed else None
        if target is None or time - index < 1e-6:
            yield before
            continue
        if between == "flow" and flows is None:
            flows = _estimate_both_flows(before, target)
        yield _blend_or_warp(before, target, min(1.0, time - index), flows)


def _estimate_both_flows(before: Any, after: Any) -> Any:
    from vqtools.media.optical_flow import estimate_flow

    first, second = _to_tensor(before), _to_tensor(after)
    return estimate_flow(first, second), estimate_flow(second, first)


def _blend_or_warp(before: Any, after: Any, t: float, flows: Any) -> Any:
    """Return the picture at time t between two: warped along their flows, or blended if there are none."""
    import numpy as np

    if flows is None:
        mixed = before.astype(np.float32) * (1 - t) + after.astype(np.float32) * t
        return mixed.round().astype(np.uint8)
    from vqtools.media.optical_flow import interpolate_by_flow

    image = interpolate_by_flow(_to_tensor(before), _to_tensor(after), t, flows)
    pixels: Any = to_uint8(image[0]).numpy()
    return pixels


def _to_tensor(pixels: Any) -> Any:
    """Convert an array (H, W, 3) of uint8 to an image (1, 3, H, W)."""
    import torch

    return from_uint8(torch.from_numpy(pixels.copy()))[None]


def _pad_or_crop(pixels: Any, padding: tuple[int, int]) -> bytes:
    """Return the bytes of a picture, padded with its edge pixels or cropped at the right and the bottom."""
    import numpy as np

    columns, rows = padding
    if columns > 0 or rows > 0:
        pixels = np.pad(pixels, ((0, max(rows, 0)), (0, max(columns, 0)), (0, 0)), mode="edge")
    cropped = pixels[: rows if rows < 0 else None, : columns if columns < 0 else None]
    return np.ascontiguousarray(cropped).tobytes()


def _encode(arguments: list[str], pixels: Iterator[bytes]) -> None:
    """Run ffmpeg with frames of raw pixels as its input. Raises UserError with its last messages if it fails."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        assert process.stdin is not None
        try:
            for frame in pixels:
                process.stdin.write(frame)
        except BrokenPipeError:  # ffmpeg has ended early; its log says why
            pass
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        if process.returncode:
            raise UserError(f"ffmpeg failed, the frames are kept; it says: {_last_lines(log)}")


def _last_lines(log: IO[bytes], count: int = 3) -> str:
    """Return the last lines of a log, at most 400 characters."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-count:])[-400:] or "nothing"
