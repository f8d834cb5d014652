"""Score candidate pictures with a CLIP, to keep the one that fits the prompts best.

Knows pictures, texts and their weights; nothing about how the candidates were made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.models.clip import CLIP

CROPS = 5  # squares along a picture that is not square, besides the whole picture


@torch.no_grad()
def rerank(clip: CLIP, images: Tensor, texts: Sequence[str], weights: Sequence[float] = (1.0,)) -> Tensor:
    """Scores (n,) of candidates (n, 3, H, W) in [-1, 1] for weighted texts; the highest fits best.

    The score is the weighted sum of the cosines between a picture and the texts, summed over the picture and its
    mirror image, whose noise is averaged out that way. Of a picture that is not square, the mean over the whole,
    squeezed to a square, and ``CROPS`` square crops along it, so that one good detail is not enough.
    """
    text = clip.embed_text(list(texts))
    weight = torch.tensor(list(weights), device=images.device)
    views = _square_views(images)
    scores = images.new_zeros(len(images))
    for view in views:
        resized = F.interpolate(view.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
        embedding = clip.embed_image(resized) + clip.embed_image(resized.flip(3))
        scores += embedding @ text.T @ weight / len(views)
    return scores


def _square_views(images: Tensor) -> list[Tensor]:
    """The whole images, and evenly spaced square crops along the longer side if they are not square."""
    height, width = images.shape[2:]
    side, views = min(height, width), [images]
    for k in range(CROPS if height != width else 0):
        top, left = (round(k * (length - side) / (CROPS - 1)) for length in (height, width))
        views.append(images[:, :, top : top + side, left : left + side])
    return views
