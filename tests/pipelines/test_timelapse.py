"""Videos of how a picture was made."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import run_command
from vqtools.core.job import finish
from vqtools.media.image import load_picture, to_tensor
from vqtools.media.png_record import read_record
from vqtools.pipelines.reproduce import replay
from vqtools.pipelines.timelapse import Timelapse


def test_the_video_ends_with_the_finished_picture(edited_picture: Path, tmp_path: Path) -> None:
    import av

    with Timelapse(replay(read_record(edited_picture)), seconds=1, fps=8) as timelapse:
        finish(timelapse)
        assert timelapse.preview().tobytes() == load_picture(edited_picture).tobytes()
        written = timelapse.write(tmp_path / "making.mp4")
        folder = Path(timelapse._folder.name)
    assert not folder.exists()
    with av.open(str(written.path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert 8 <= len(frames) <= 8 + 8 + 1 and frames[0].shape == (64, 64, 3)
    assert abs(frames[0].astype(int) - frames[-1]).mean() > 2
    last = to_tensor(load_picture(edited_picture))
    assert abs(frames[-1].astype(float) / 127.5 - 1 - last[0].permute(1, 2, 0).numpy()).mean() < 0.1


def test_the_sampling_window_is_written_as_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.chdir(tmp_path)
    assert run_command("sample", "--size", "64x64", "--seed", "3", "--film", "--out", "small.png") == 0
    with av.open("small-window.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(frames) > 24 and frames[0].shape == (64, 64, 3)
    last = np.asarray(load_picture("small.png")).astype(int)
    assert abs(frames[-1] - last).mean() < 12 < abs(frames[0] - last).mean()
