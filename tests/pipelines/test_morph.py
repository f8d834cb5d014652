"""A morph with the starter VQGAN, as called from Python."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from vqtools.media.image import load_picture, resize_and_crop
from vqtools.pipelines import morph


def test_a_morph_of_the_starter_begins_and_ends_with_its_pictures(tmp_path: Path) -> None:
    pictures = sorted((Path(__file__).parents[1] / "pictures").glob("fluent3d__*.webp"))[:2]
    path = morph.morph(pictures, size=(64, 64), frames=5, out=tmp_path / "two")
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in file.decode(video=0)]
    assert len(frames) == 5
    for end, source in ((0, pictures[0]), (-1, pictures[1])):
        picture = np.asarray(resize_and_crop(load_picture(source), (64, 64))).astype(float)
        assert abs(frames[end] - picture).mean() < 25
