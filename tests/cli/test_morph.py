"""The commands `vqtools morph` and `vqtools fly`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vqtools.cli.main import main


def stripes(width: int, height: int, columns: int) -> Image.Image:
    x = np.arange(width) * columns // width
    return Image.fromarray(np.broadcast_to((x * 255 // (columns - 1))[None, :, None], (height, width, 3)).astype("u1"))


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "h264"), ("webm", "vp9"), ("gif", "gif")])
def test_fly_writes_a_video_and_resumes(
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
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 48, 32)
        assert sum(1 for _ in file.decode(video=0)) == 6
    (tmp_path / "wide-fly" / "frames" / "frame-00005.png").unlink()
    with pytest.raises(SystemExit) as done:
        main(["fly", "--resume", "wide-fly"])
    assert done.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "there is no picture"),
        (["morph", "one.png"], "'one.png' is not there"),
        (["fly", "a.png", "b.png"], "one picture, not 2"),
        (["fly", "a.png", "--zoom", "sin("], "zoom"),
    ],
)
def test_invalid_arguments_print_one_line_and_leave_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
