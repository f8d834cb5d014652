"""Videos, read back with PyAV: codec, pixel format, size, rate, frame count, duration, faststart, colours, sound."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.png_record import save_png
from vqtools.media.video import FrameInterpolation, frame_name, list_frames, video_widget, write_video

COLOURS = [(200, 60, 40), (40, 180, 80), (60, 80, 220), (230, 210, 60), (20, 20, 20)]


def save(folder: Path, number: int, picture: Image.Image, record: dict[str, int]) -> Path:
    return save_png(folder / frame_name(number), picture, record, overwrite=True)


def frames(folder: Path, count: int = 5, size: tuple[int, int] = (48, 32)) -> list[Path]:
    return [save(folder, i, Image.new("RGB", size, COLOURS[i % len(COLOURS)]), {"frame": i}) for i in range(count)]


def tone(path: Path, seconds: float) -> Path:
    t = np.arange(int(8000 * seconds)) / 8000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.sin(2 * np.pi * 440 * t) * 20000).astype("<i2").tobytes())
    return path


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def faststart(path: Path) -> bool:
    data = path.read_bytes()
    return 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(("fps", "count"), [(12, 5), (12.5, 7), (30, 1), (24, 30)])
def test_an_mp4_has_the_format_that_every_player_supports(tmp_path: Path, fps: float, count: int) -> None:
    video = write_video(frames(tmp_path, count), tmp_path / "a.mp4", fps=fps)
    assert video == (tmp_path / "a.mp4", count, (48, 32), (0, 0))
    with av.open(str(video.path)) as file:
        (stream,) = file.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 48, 32)
        assert float(stream.average_rate) == pytest.approx(fps)
        assert float(stream.duration * stream.time_base) == pytest.approx(count / fps, abs=0.01)
        assert context.colorspace == 1  # bt709
    assert faststart(video.path)
    read = pictures(video.path)
    assert len(read) == count
    for i, picture in enumerate(read):
        assert np.abs(picture[8:-8, 8:-8].mean((0, 1)) - COLOURS[i % 5]).max() < 6, i
    assert not list(tmp_path.glob(".*"))


def test_webm_and_gif_have_their_codec_rate_and_colours(tmp_path: Path) -> None:
    shots = frames(tmp_path)
    write_video(shots, tmp_path / "a.webm", fps=10)
    with av.open(str(tmp_path / "a.webm")) as file:
        assert file.streams.video[0].codec_context.name == "vp9"
        assert float(file.streams.video[0].average_rate) == 10
    assert len(pictures(tmp_path / "a.webm")) == 5
    write_video(shots, tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"], picture.info["loop"]) == (5, (48, 32), 100, 0)
        assert np.abs(np.asarray(picture.convert("RGB")).mean((0, 1)) - COLOURS[0]).max() < 4


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_odd_sides_are_padded_or_cropped_and_reported(tmp_path: Path, kind: str) -> None:
    shots = frames(tmp_path, 2, (49, 33))
    padded = write_video(shots, tmp_path / f"p.{kind}")
    cropped = write_video(shots, tmp_path / f"c.{kind}", sides="crop")
    assert (padded.size, padded.padding) == ((50, 34), (1, 1))
    assert (cropped.size, cropped.padding) == ((48, 32), (-1, -1))
    assert pictures(padded.path)[0].shape == (34, 50, 3) and pictures(cropped.path)[0].shape == (32, 48, 3)
    assert np.abs(pictures(padded.path)[0][-1, -1] - np.array(COLOURS[0])).max() < 12  # its own edge, no black line
    gif = write_video(shots, tmp_path / "a.gif")
    assert (gif.size, gif.padding) == ((49, 33), (0, 0))


@pytest.mark.parametrize("between", ["blend", "flow"])
def test_interpolation_reaches_the_output_rate(tmp_path: Path, between: FrameInterpolation) -> None:
    shots = frames(tmp_path, 6)
    video = write_video(shots, tmp_path / "a.mp4", fps=6, out_fps=24, between=between)
    with av.open(str(video.path)) as file:
        assert float(file.streams.video[0].average_rate) == 24
    read = pictures(video.path)
    assert len(read) == 24
    assert np.abs(read[0].mean((0, 1)) - COLOURS[0]).max() < 8


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_audio_is_added_and_cut_to_the_length_of_the_video(tmp_path: Path, seconds: float) -> None:
    sound = tone(tmp_path / "a.wav", seconds)
    video = write_video(frames(tmp_path, 12), tmp_path / "a.mp4", fps=12, audio=sound)
    with av.open(str(video.path)) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        samples = sum(frame.samples for frame in file.decode(audio=0))
        assert samples / file.streams.audio[0].rate == pytest.approx(min(seconds, 1), abs=0.15)
    assert len(pictures(video.path)) == 12 and faststart(video.path)
    silent = write_video(frames(tmp_path, 3), tmp_path / "a.gif", audio=sound)
    assert silent.frames == 3


def test_missing_broken_and_differently_sized_frames_are_user_errors(tmp_path: Path) -> None:
    frames(tmp_path, 6)
    assert [path.name for path in list_frames(tmp_path)][:2] == ["frame-00000.png", "frame-00001.png"]
    (tmp_path / "frame-00003.png").write_bytes((tmp_path / "frame-00003.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"frame-00003\.png' is broken"):
        write_video(list_frames(tmp_path), tmp_path / "a.mp4")
    save(tmp_path, 3, Image.new("RGB", (40, 32)), {})
    with pytest.raises(UserError, match=r"frame-00003\.png is 40x32, the first frame 48x32"):
        write_video(list_frames(tmp_path), tmp_path / "a.mp4")
    (tmp_path / "frame-00003.png").unlink()
    with pytest.raises(UserError, match=r"frame-00003\.png is missing"):
        list_frames(tmp_path)
    assert not (tmp_path / "a.mp4").exists() and not list(tmp_path.glob(".*"))
    with pytest.raises(UserError, match="contains no frames"):
        list_frames(tmp_path / "none")


def test_a_failing_encoder_shows_its_log_and_keeps_the_frames_and_the_older_video(tmp_path: Path) -> None:
    shots = frames(tmp_path, 3)
    (tmp_path / "a.mp4").write_bytes(b"an older video")
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"no sound at all")
    with pytest.raises(UserError, match=r"ffmpeg failed, the frames are kept; it says: .*(nvalid|rror|not)"):
        write_video(shots, tmp_path / "a.mp4", audio=noise)
    assert (tmp_path / "a.mp4").read_bytes() == b"an older video"
    assert all(path.exists() for path in shots) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("a.avi", {}, "must be one of .mp4, .webm, .gif"),
        ("a.mp4", {"fps": 0}, "fps 0: must be 0.1 to 240"),
        ("a.mp4", {"between": "blend", "out_fps": 6}, "needs a rate above 12"),
        ("a.mp4", {"audio": "none.mp3"}, "'none.mp3' is not there"),
    ],
)
def test_invalid_options_are_user_errors(tmp_path: Path, name: str, fields: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        write_video(frames(tmp_path, 2), tmp_path / name, **fields)  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_widget_embeds_the_video(tmp_path: Path, kind: str) -> None:
    written = write_video(frames(tmp_path, 2), tmp_path / f"a.{kind}")
    widget = video_widget(written.path)
    written.path.unlink()  # the file is not needed any more
    html = widget._repr_html_()
    assert f"data:video/{kind};base64," in html and "controls" in html


def test_the_widget_of_a_gif_is_an_image(tmp_path: Path) -> None:
    written = write_video(frames(tmp_path, 2), tmp_path / "a.gif")
    data, _ = video_widget(written.path)._repr_mimebundle_()
    assert list(data) == ["image/gif"]
