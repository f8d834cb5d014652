"""Films of pictures that are there: morphs end at their pictures, flights see what they should, runs go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.animation.conftest import tiny_vqgan
from vqtools.animation.flight import Flight
from vqtools.animation.frame_renderer import FrameRenderer
from vqtools.animation.morph import Morph
from vqtools.animation.project import Project
from vqtools.animation.settings import FlySettings, MorphSettings
from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_picture, to_tensor
from vqtools.pipelines import morph


def stripes(width: int, height: int, columns: int) -> Image.Image:
    x = np.arange(width) * columns // width
    return Image.fromarray(np.broadcast_to((x * 255 // (columns - 1))[None, :, None], (height, width, 3)).astype("u1"))


def test_a_morph_stands_at_its_pictures_and_goes_straight_between() -> None:
    vqgan, one, two = tiny_vqgan(), stripes(32, 16, 4), stripes(32, 16, 2).rotate(180)
    morph = Morph([one, two], vqgan, MorphSettings(size=(32, 16), frames=9, hold=0.25))
    with torch.no_grad():
        a, b = (vqgan.codes_to_latents(vqgan.encode(to_tensor(picture))) for picture in (one, two))
        expected = [vqgan.decode_latents(z).clamp(-1, 1) for z in (a, b, (a + b) / 2)]
    for frame, picture in zip((0, 8, 4), expected, strict=True):
        assert np.array_equal(np.asarray(morph(frame)), np.asarray(to_picture(picture)))
    assert morph(1).tobytes() == morph(0).tobytes() != morph(2).tobytes()  # it stands a while


def test_whole_codes_jump_and_a_loop_comes_back() -> None:
    pictures = [stripes(32, 16, 4), stripes(32, 16, 2), stripes(32, 16, 8)]
    vqgan = tiny_vqgan()
    jumpy = Morph(pictures, vqgan, MorphSettings(size=(32, 16), frames=12, whole_codes=True, loop=True))
    with torch.no_grad():
        whole = vqgan.decode(vqgan.encode(to_tensor(pictures[1]))).clamp(-1, 1)
    assert np.array_equal(np.asarray(jumpy(4)), np.asarray(to_picture(whole)))
    assert jumpy.position_at(0) == (0, 0.0) and jumpy.position_at(8) == (2, 0.0) and jumpy.position_at(11)[0] == 2
    with pytest.raises(UserError, match="two or more"):
        Morph(pictures[:1], vqgan, MorphSettings())


def test_a_flight_sees_all_then_a_part_and_never_beyond() -> None:
    picture = stripes(400, 100, 8)
    flight = Flight(picture, FlySettings(size=(40, 20), frames=5, zoom="0:(1), 4:(4)", x="0:(0), 4:(1)"))
    assert flight.crop_box(0) == (0, 0, 200, 100) and flight.crop_box(4) == (350, 37.5, 400, 62.5)
    assert np.asarray(flight(4)).min() >= 253
    lines = Image.fromarray(np.indices((400, 400))[1].astype("u1") % 2 * 255).convert("RGB")
    fine = np.asarray(Flight(lines, FlySettings(size=(20, 20), frames=1, zoom="1"))(0)).astype(float)
    assert abs(fine - 127.5).max() < 4  # antialiased: grey, and no moiré
    with pytest.raises(UserError, match="must be at least 1"):
        Flight(picture, FlySettings(zoom="0.5"))
    with pytest.raises(UserError, match="less than two pixels"):
        Flight(picture, FlySettings(zoom="1000"))


def test_a_run_cut_short_goes_on_and_makes_no_frame_twice(tmp_path: Path) -> None:
    made: list[int] = []

    def frame(number: int) -> Image.Image:
        made.append(number)
        return Image.new("RGB", (8, 8), (number, 0, 0))

    for stop in (2, 5):
        job = FrameRenderer(FlySettings(frames=5), Project(tmp_path, {}), frame)
        while job.position < stop:
            job.step()
    assert made == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "h264"), ("webm", "vp9"), ("gif", "gif")])
def test_the_command_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, codec: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stripes(300, 200, 5).save("wide.png")
    arguments = ["fly", "wide.png", "--size", "48x32", "--frames", "6", "--fps", "12", "--zoom", "0:(1), 5:(3)"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--format", kind])
    assert done.value.code == 0
    path = tmp_path / "wide-fly" / f"wide-fly.{kind}"
    assert "6 frames, 48x32" in capsys.readouterr().out
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 48, 32)
        assert sum(1 for _ in film.decode(video=0)) == 6
    (tmp_path / "wide-fly" / "frames" / "frame-00005.png").unlink()
    with pytest.raises(SystemExit) as done:
        main(["fly", "--resume", "wide-fly"])
    assert done.value.code == 0


def test_a_morph_by_the_starter_from_python(tmp_path: Path) -> None:
    pictures = sorted((Path(__file__).parents[1] / "pictures").glob("fluent3d__*.webp"))[:2]
    path = morph.morph(pictures, size=(64, 64), frames=5, out=tmp_path / "two")
    with av.open(str(path)) as film:
        shown = [frame.to_ndarray(format="rgb24").astype(float) for frame in film.decode(video=0)]
    assert len(shown) == 5
    for end, source in ((0, pictures[0]), (-1, pictures[1])):
        picture = np.asarray(resize_and_crop(load_picture(source), (64, 64))).astype(float)
        assert abs(shown[end] - picture).mean() < 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "there is no picture"),
        (["morph", "one.png"], "'one.png' is not there"),
        (["fly", "a.png", "b.png"], "one picture, not 2"),
        (["fly", "a.png", "--zoom", "sin("], "zoom"),
    ],
)
def test_the_impossible_gets_its_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2 and says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
