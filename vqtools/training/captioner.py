"""Embed captions with a CLIP, once each, for the training of a transformer.

Knows texts and a CLIP, which is passed in; nothing about pictures or codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vqtools.models.clip import CLIP
from vqtools.models.gpt import CaptionEmbedding

TEXT_TOKENS = 2  # made from a caption's embedding
CAPTION_WORDS = 12  # word pieces of a caption that are read

Captioner = Callable[[Sequence[str]], CaptionEmbedding]
"""Maps n captions to their embeddings, in n rows."""


def build_captioner(clip: CLIP, texts: Sequence[str], device: torch.device) -> Captioner:
    """A captioner for these texts and the empty caption; all are embedded now and kept on the CPU."""
    unique = sorted({"", *texts})
    index = {text: i for i, text in enumerate(unique)}
    clip = clip.to(device)
    with torch.no_grad():
        parts = [unique[i : i + 256] for i in range(0, len(unique), 256)]
        whole = torch.cat([clip.embed_text(part).cpu() for part in parts])
        words = torch.cat([clip.embed_words(part, CAPTION_WORDS).cpu() for part in parts]).half()

    def embed(texts: Sequence[str]) -> CaptionEmbedding:
        rows = [index[text] for text in texts]
        return CaptionEmbedding(whole[rows], words[rows].float(), torch.zeros(len(rows), dtype=torch.int64))

    return embed
