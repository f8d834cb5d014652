"""TODO: what this module is.

Split from vqtools.training.codes, vqtools.workshop_transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vqtools.models.clip import CLIP
from vqtools.models.gpt import CaptionEmbedding

Captioner = Callable[[Sequence[str]], CaptionEmbedding]


TEXT_TOKENS = 2


CAPTION_WORDS = 12


def build_captioner(
    clip: CLIP, texts: Sequence[str], device: torch.device
) -> Callable[[Sequence[str]], CaptionEmbedding]:
    """A reader of these captions: each is read once, and kept."""
    unique = sorted({"", *texts})
    number = {text: i for i, text in enumerate(unique)}
    clip = clip.to(device)
    with torch.no_grad():
        parts = [unique[i : i + 256] for i in range(0, len(unique), 256)]
        whole = torch.cat([clip.embed_text(part).cpu() for part in parts])
        words = torch.cat([clip.embed_words(part, CAPTION_WORDS).cpu() for part in parts]).half()

    def read(texts: Sequence[str]) -> CaptionEmbedding:
        rows = [number[text] for text in texts]
        return CaptionEmbedding(whole[rows], words[rows].float(), torch.zeros(len(rows), dtype=torch.int64))

    return read
