"""TODO: what this module is.

Split from vqtools.drawing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.models.clip import CLIP

CROPS = 5  # of a wide picture that the CLIP looks at, beside the whole


@torch.no_grad()
def clip_similarity(clip: CLIP, images: Tensor, prompt: str) -> Tensor:
    """How well pictures (n, 3, H, W) in [-1, 1] fit a text: mean cosine (n,) of the whole and of squares along it."""
    height, width = images.shape[2:]
    side = min(height, width)
    views = [images]
    for k in range(CROPS if height != width else 0):
        top, left = (round(k * (length - side) / (CROPS - 1)) for length in (height, width))
        views.append(images[:, :, top : top + side, left : left + side])
    text, found = clip.embed_text([prompt])[0], images.new_zeros(len(images))
    for view in views:
        small = F.interpolate(view.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True)
        found += clip.embed_image(small.clamp(0, 1)) @ text / len(views)
    return found
