"""Embeddings of prompts: texts and pictures embedded by each CLIP, with their weights and stops.

Knows prompts and CLIPs; nothing about steps.

Shapes: p prompts, d dimensions of a CLIP's embedding, n texts or images.
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
"""Opens a picture by the name that settings give it."""


class CLIPLike(Protocol):
    """What painting needs of a CLIP."""

    @property
    def size(self) -> int:
        """Side of its input images in pixels."""

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit embeddings (n, d) of texts."""

    def embed_image(self, images: Tensor) -> Tensor:
        """Unit embeddings (n, d) of images (n, 3, size, size) in [0, 1]; differentiable."""


@dataclass(frozen=True)
class PromptEmbeddings:
    """The prompts of one text, in the order of the text."""

    prompt: str  # the text that was parsed
    names: list[str]  # the prompts' texts, made unique
    weights: Tensor  # (p,)
    stops: Tensor  # (p,)
    embeddings: list[Tensor]  # one (p, d) for each CLIP


def embed_prompts(prompt: str, clips: Sequence[CLIPLike], device: torch.device, load: LoadPicture) -> PromptEmbeddings:
    """Parse ``text:weight:stop | picture:FILE`` and embed each prompt by each CLIP; ``load`` opens a picture."""
    prompts = parse_prompts(prompt)
    pictures = {p.picture: load(p.picture) for p in prompts if p.picture}
    texts = [p.text for p in prompts if not p.picture]
    embeddings = []
    with torch.no_grad():
        for clip in clips:
            embedded_texts = iter(clip.embed_text(texts).to(device, torch.float32) if texts else ())
            rows = [
                _embed_picture(clip, pictures[p.picture], device) if p.picture else next(embedded_texts)
                for p in prompts
            ]
            embeddings.append(torch.stack(rows))
    weights = torch.tensor([p.weight for p in prompts], device=device)
    stops = torch.tensor([p.stop for p in prompts], device=device)
    return PromptEmbeddings(prompt, _unique_names([p.text for p in prompts]), weights, stops, embeddings)


def check_prompt_index(prompt: str, index: int) -> None:
    """Raise UserError unless the text has a prompt of this index, counted from 0."""
    count = len(parse_prompts(prompt))
    if not 0 <= index < count:
        raise UserError(
            f"there is no prompt {index + 1} to give a region to; there {'is 1' if count == 1 else f'are {count}'}"
        )


def _embed_picture(clip: CLIPLike, picture: Image.Image, device: torch.device) -> Tensor:
    """Unit embedding (d,) of a picture prompt: the mean over its centre crop and the crop's mirror image."""
    image = to_tensor(resize_and_crop(picture, (clip.size, clip.size))).to(device).add(1).div(2)
    embeddings = clip.embed_image(torch.cat([image, image.flip(3)])).float()
    return F.normalize(embeddings.mean(0), dim=-1)


def _unique_names(names: list[str]) -> list[str]:
    """Number repeated names, since losses are reported by name: "sky", "sky (2)"."""
    counts: Counter[str] = Counter()
    unique = []
    for name in names:
        counts[name] += 1
        unique.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return unique
