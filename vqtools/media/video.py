"""Numbered PNGs become a video that plays everywhere: mp4 (also in a browser cell), webm or gif.

The frames stay where they are, whatever the encoder does. Knows files and ffmpeg (the one that imageio-ffmpeg brings);
nothing about how frames are made.
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
_CRF_OFFSETS = {".webm": 13}  # VP9 counts otherwise: about the same look


class WrittenVideo(NamedTuple):
    """What was written. ``size`` is the video's, ``added`` the columns and rows that padding or cropping changed."""

    path: Path
    frames: int
    size: tuple[int, int]
    added: tuple[int, int]


def frame_name(number: int) -> str:
    """The file name of a frame, counted from 0: ``frame-00000.png``."""
    return f"frame-{number:05d}.png"


def numbered_frames(folder: str | Path) -> dict[int, Path]:
    """The frames in a folder by their numbers, in order. Files of other names are ignored."""
    names = ((_FRAME_NAME.fullmatch(path.name), path) for path in Path(folder).glob("frame-*.png"))
    return dict(sorted((int(match[1]), path) for match, path in names if match))


def list_frames(folder: str | Path) -> list[Path]:
    """The frames of a folder in order; UserError where there are none, or a number is missing between two."""
    folder = Path(folder)
    found = numbered_frames(folder)
    if not found:
        raise UserError(f"folder {str(folder)!r} holds no frames; expected {frame_name(0)} and so on")
    numbers = list(found)
    if missing := sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{frame_name(missing[0])}{more} is missing in {str(folder)!r}; make it again with --resume")
    return list(found.values())


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
    """Make a video of pictures of one size; the ending of ``path`` says which kind. Whole or not at all.

    fps: frames a second. out_fps: with more of them between, by ``between``: blended, or moved along the optical flow.
    sides: an odd side gets a row more (the edge's own pixels), or loses one. crf: less is better and larger.
    audio: a file whose sound goes along, as long as the video, from its second ``audio_from`` on. loops: of a gif, 0
    for endless. closed: the end runs into the beginning, so that there are frames between the last and the first too.
    """
    path = Path(path)
    kind = path.suffix.lower()
    _check_options(frames, kind, fps, out_fps, between, audio)
    width, height = load_picture(frames[0]).size
    even = kind != ".gif"
    step = 1 if sides == "pad" else -1
    added = (width % 2 * step * even, height % 2 * step * even)
    size = (width + added[0], height + added[1])
    if min(size) < 2:
        raise UserError(f"frames of {width}x{height} are too small for a video; at least 2x2 are needed")
    rate = fps if between == "none" or out_fps is None else out_fps
    arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{rate:.6g}", "-i", "-"]
    if audio is not None and kind in _AUDIO_CODECS:
        arguments += ["-ss", f"{audio_from:.6f}"] if audio_from else []
        arguments += ["-i", str(audio), "-map", "0:v", "-map", "1:a:0", *_AUDIO_CODECS[kind]]
    arguments += [*_colour_filters(kind), *VIDEO_FORMATS[kind]]
    if kind != ".gif":
        arguments += ["-crf", str(min(63, crf + _CRF_OFFSETS.get(kind, 0)))]
    else:
        arguments += ["-loop", str(loops)]
    pictures = _load_frames(frames, (width, height))
    if rate != fps:
        pictures = _resample_frames(pictures, len(frames), rate / fps, between, closed)
    with atomic_write(path, suffix=kind) as temporary:
        ends = ["-t", f"{len(frames) / fps:.6f}", str(temporary)]
        _encode([*arguments, *ends], (_pad_or_crop(picture, added) for picture in pictures))
        if not temporary.is_file() or not temporary.stat().st_size:
            raise UserError(f"ffmpeg left {path.name} empty; the frames are kept in {str(frames[0].parent)!r}")
    return WrittenVideo(path, len(frames), size, added)


def _check_options(
    frames: Sequence[Path], kind: str, fps: float, out_fps: float | None, between: str, audio: str | Path | None
) -> None:
    if kind not in VIDEO_FORMATS:
        raise UserError(f"video ending {kind!r}: must be one of {', '.join(VIDEO_FORMATS)}")
    if not frames:
        raise UserError("no frames, no video; make some first")
    if not 0.1 <= fps <= 240:
        raise UserError(f"fps {fps:g}: must be 0.1 to 240")
    if between not in ("none", "blend", "flow"):
        raise UserError(f"between {shorten(between)}: must be none, blend or flow")
    if between != "none" and not (out_fps and fps < out_fps <= 240):
        raise UserError(f"out_fps {out_fps}: frames in between want a rate above {fps:g}, at most 240")
    if audio is not None and not Path(audio).is_file():
        raise UserError(f"audio {str(audio)!r} is not there")


def _colour_filters(kind: str) -> list[str]:
    if kind == ".gif":
        steps = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=sierra2_4a"
        return ["-filter_complex", steps]
    # the pixels are full-range RGB: said, so that every player shows the same colours
    return ["-vf", "scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709"]


def _load_frames(frames: Sequence[Path], size: tuple[int, int]) -> Iterator[Any]:
    """Each frame as an array (H, W, 3), one at a time."""
    import numpy as np

    for path in frames:
        picture = load_picture(path)
        if picture.size != size:
            raise UserError(
                f"{path.name} is {picture.width}x{picture.height}, the first frame {size[0]}x{size[1]};"
                " a video wants one size"
            )
        yield np.asarray(picture)


def _resample_frames(
    pictures: Iterator[Any], count: int, more: float, between: FrameInterpolation, closed: bool
) -> Iterator[Any]:
    """``more`` times as many pictures: those that are there, and between them what they are blended or moved to.

    The last one is held, or runs into the first where the film is closed.
    """
    first = before = next(pictures)
    after, ways = next(pictures, None), None
    index = 0  # of the picture before
    for number in range(round(count * more)):
        time = number / more
        while time >= index + 1 and after is not None:
            before, after, ways, index = after, next(pictures, None), None, index + 1
        target = after if after is not None else first if closed else None
        if target is None or time - index < 1e-6:
            yield before
            continue
        if between == "flow" and ways is None:
            ways = _flow_both_ways(before, target)
        yield _blend_or_warp(before, target, min(1.0, time - index), ways)


def _flow_both_ways(before: Any, after: Any) -> Any:
    from vqtools.media.optical_flow import estimate_flow

    a, b = _tensor(before), _tensor(after)
    return estimate_flow(a, b), estimate_flow(b, a)


def _blend_or_warp(before: Any, after: Any, share: float, ways: Any) -> Any:
    import numpy as np

    if ways is None:
        mixed = before.astype(np.float32) * (1 - share) + after.astype(np.float32) * share
        return mixed.round().astype(np.uint8)
    from vqtools.media.optical_flow import interpolate_by_flow

    image = interpolate_by_flow(_tensor(before), _tensor(after), share, ways)
    pixels: Any = to_uint8(image[0]).numpy()
    return pixels


def _tensor(pixels: Any) -> Any:
    import torch

    return from_uint8(torch.from_numpy(pixels.copy()))[None]


def _pad_or_crop(pixels: Any, added: tuple[int, int]) -> bytes:
    """A picture's RGB, an odd side padded with its own edge, or cropped."""
    import numpy as np

    columns, rows = added
    if columns > 0 or rows > 0:
        pixels = np.pad(pixels, ((0, max(rows, 0)), (0, max(columns, 0)), (0, 0)), mode="edge")
    whole = pixels[: rows if rows < 0 else None, : columns if columns < 0 else None]
    return np.ascontiguousarray(whole).tobytes()


def _encode(arguments: list[str], pixels: Iterator[bytes]) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        assert process.stdin is not None
        try:
            for frame in pixels:
                process.stdin.write(frame)
        except BrokenPipeError:  # its own words say why, below
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
    log.seek(0)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-count:])[-400:] or "nothing"


def video_widget(path: str | Path, width: int | None = None) -> DisplayObject:
    """A video (mp4, webm or gif) as a notebook's cell shows it, embedded in the page: it also plays in Colab.

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
