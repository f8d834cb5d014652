"""CLIP's scores of candidates: the whole picture, square crops, mirror images and weighted texts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.models.clip import CLIP
from vqtools.sampling.rerank import CROPS, rerank
from vqtools.weights.load import load_clip


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return load_clip("starter")


def embed(clip: CLIP, images: Tensor) -> Tensor:
    resized = F.interpolate(images.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True)
    return clip.embed_image(resized.clamp(0, 1))


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_square_picture_is_scored_whole_and_mirrored(clip: CLIP) -> None:
    images, texts = noise(3, 3, 64, 64), clip.embed_text(["a meadow", "rain"])
    expected = (embed(clip, images) + embed(clip, images.flip(3))) @ texts.T @ torch.tensor([2.0, -1.0])
    torch.testing.assert_close(rerank(clip, images, ["a meadow", "rain"], [2.0, -1.0]), expected)


@pytest.mark.parametrize("size", [(32, 96), (96, 32), (48, 48)])
def test_mirroring_a_picture_does_not_change_its_score(clip: CLIP, size: tuple[int, int]) -> None:
    images = noise(2, 3, *size)
    scores, mirrored = rerank(clip, images, ["a meadow"]), rerank(clip, images.flip(3), ["a meadow"])
    torch.testing.assert_close(scores, mirrored, rtol=0, atol=1e-4)


def test_a_wide_picture_is_scored_whole_and_by_crops_along_it(clip: CLIP) -> None:
    image, text = noise(1, 3, 32, 96), clip.embed_text(["a meadow"])[0]
    views = [image, *(image[..., left : left + 32] for left in (0, 16, 32, 48, 64))]
    assert len(views) == CROPS + 1
    expected = sum((embed(clip, view) + embed(clip, view.flip(3))) @ text for view in views) / len(views)
    torch.testing.assert_close(rerank(clip, image, ["a meadow"]), expected)
