"""The making of a picture as a video."""

from pathlib import Path

import numpy as np
import pytest

from vqtools.cli.main import main
from vqtools.core.job import finish
from vqtools.media.image import load_picture, to_tensor
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.reproduce import replay
from vqtools.pipelines.timelapse import Timelapse

QUICK = {"size": (64, 64), "iterations": 4, "cutouts": 2, "grids": 1}


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that was edited in mid-run."""
    job = create_session(PaintSettings(prompt="a red apple", seed=2, **QUICK))
    for _ in range(job.total - 2):
        job.step()
    job.edit({"prompt": "a green apple"})
    finish(job)
    return save_png(tmp_path_factory.mktemp("steered") / "apple.png", job.picture(), job.record())


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_the_video_ends_with_the_finished_picture(steered: Path, tmp_path: Path) -> None:
    import av

    with Timelapse(replay(read_record(steered)), seconds=1, fps=8) as film:
        finish(film)
        assert film.preview().tobytes() == load_picture(steered).tobytes()
        made = film.write(tmp_path / "making.mp4")
        folder = Path(film._folder.name)
    assert not folder.exists()
    with av.open(str(made.path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert 8 <= len(frames) <= 8 + 8 + 1 and frames[0].shape == (64, 64, 3)
    assert abs(frames[0].astype(int) - frames[-1]).mean() > 2
    last = to_tensor(load_picture(steered))
    assert abs(frames[-1].astype(float) / 127.5 - 1 - last[0].permute(1, 2, 0).numpy()).mean() < 0.1


def test_the_sampling_window_is_written_as_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.chdir(tmp_path)
    assert call("sample", "--size", "64x64", "--seed", "3", "--film", "--out", "small.png") == 0
    with av.open("small-window.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(frames) > 24 and frames[0].shape == (64, 64, 3)
    last = np.asarray(load_picture("small.png")).astype(int)
    assert abs(frames[-1] - last).mean() < 12 < abs(frames[0] - last).mean()
