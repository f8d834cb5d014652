"""Reading a video file: its properties and its frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.video import frame_name
from vqtools.media.video_reader import extract_frames, probe_video, read_frames

Make = Callable[..., Any]


def test_the_properties_of_a_video_are_read(clip: Make) -> None:
    video = probe_video(clip())
    assert (video.size, video.fps, video.has_audio) == ((96, 64), 8.0, True)
    assert video.seconds == pytest.approx(1.5, abs=0.02)
    assert [video.frame_count(fps) for fps in (8, 4, 16)] == [12, 6, 24]
    assert not probe_video(clip(sound=False)).has_audio


def test_frames_are_read_in_order_at_any_rate(clip: Make, shapes: Make) -> None:
    path, pictures = clip(), shapes(12)
    frames = [np.asarray(picture, dtype=int) for picture in read_frames(path, 8, 100)]
    assert len(frames) == 12
    for picture, expected in zip(frames, pictures, strict=True):
        assert np.abs(picture - np.asarray(expected, dtype=int)).mean() < 6
    slower = [np.asarray(picture, dtype=int) for picture in read_frames(path, 4, 100)]
    assert len(slower) == 6
    assert len(list(read_frames(path, 8, 5))) == 5


def test_extracted_frames_are_cropped_and_existing_files_kept(clip: Make, tmp_path: Path) -> None:
    path = clip()
    assert extract_frames(path, tmp_path, fps=8, limit=4, size=(64, 64)) == 4
    first = tmp_path / frame_name(0)
    with Image.open(first) as picture:
        assert picture.size == (64, 64)
    written = first.stat().st_mtime_ns
    assert extract_frames(path, tmp_path, fps=8, limit=6, size=(64, 64)) == 6
    assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize(("content", "says"), [(None, "is not there"), (b"not a video", "cannot be read")])
def test_a_file_that_is_not_a_video_is_a_user_error(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        probe_video(path)
