"""Prompts as numbers: what each CLIP makes of the texts and pictures, how strongly they pull, and where they count.

Knows prompts and judges; nothing about steps.

Shapes: p prompts, d a CLIP's embedding, n views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import resize_and_crop, to_tensor
from vqtools.painting.prompts import parse_prompts

if TYPE_CHECKING:
    from PIL import Image

LoadPicture = Callable[[str], "Image.Image"]


class CLIPLike(Protocol):
    """A CLIP, as far as painting needs one."""

    @property
    def size(self) -> int:
        """Side of the pictures it sees, in pixels."""

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit embeddings (n, d) of texts."""

    def embed_image(self, images: Tensor) -> Tensor:
        """Unit embeddings (n, d) of images (n, 3, size, size) in [0, 1]; differentiable."""


@dataclass(frozen=True)
class PromptEmbeddings:
    """What the picture is drawn to."""

    prompt: str  # what it was read from
    names: list[str]  # no two are equal
    weights: Tensor  # (p,)
    stops: Tensor  # (p,)
    embeddings: list[Tensor]  # one (p, d) for each CLIP


def embed_prompts(prompt: str, clips: Sequence[CLIPLike], device: torch.device, load: LoadPicture) -> PromptEmbeddings:
    """The prompts of ``text:weight:stop | picture:FILE``, seen by each of the CLIPs; ``load`` opens a picture."""
    parsed = parse_prompts(prompt)
    pictures = {one.picture: load(one.picture) for one in parsed if one.picture}
    embeddings = []
    with torch.no_grad():
        for clip in clips:
            words = [one.text for one in parsed if not one.picture]
            texts = iter(clip.embed_text(words).to(device, torch.float32) if words else ())
            rows = [
                _embed_picture(clip, pictures[one.picture], device) if one.picture else next(texts) for one in parsed
            ]
            embeddings.append(torch.stack(rows))
    weights = torch.tensor([one.weight for one in parsed], device=device)
    stops = torch.tensor([one.stop for one in parsed], device=device)
    return PromptEmbeddings(prompt, _unique_names([one.text for one in parsed]), weights, stops, embeddings)


def check_prompt_index(prompt: str, index: int) -> None:
    """UserError unless there is such a prompt, counted from 0."""
    count = len(parse_prompts(prompt))
    if not 0 <= index < count:
        raise UserError(
            f"there is no prompt {index + 1} to give a region to; there {'is 1' if count == 1 else f'are {count}'}"
        )


def _embed_picture(clip: CLIPLike, picture: Image.Image, device: torch.device) -> Tensor:
    """A picture prompt's unit embedding (d,): of its middle, and of the mirror image, which steadies it."""
    image = to_tensor(resize_and_crop(picture, (clip.size, clip.size))).to(device).add(1).div(2)
    seen = clip.embed_image(torch.cat([image, image.flip(3)])).float()
    return F.normalize(seen.mean(0), dim=-1)


def _unique_names(names: list[str]) -> list[str]:
    """Equal names counted, so that the losses reported under them stay apart: "sky", "sky (2)"."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out
