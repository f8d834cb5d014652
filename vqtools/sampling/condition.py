"""Build a transformer's condition: what it reads besides the codes that it predicts.

Every sampler, score and training builds its condition here. Networks are passed in; nothing is loaded. Knows nothing
about windows or noise.

Shapes: b grids, h and w their sides in codes, p tokens in front of the codes, d the transformer's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import to_tensor
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, CaptionEmbedding
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.settings import SampleSettings, ScoreSettings


class Condition(NamedTuple):
    """What a transformer reads besides the codes that it predicts; at least one of ``prefix`` and ``spatial`` is set.

    prefix: tokens (b, p, d) in front of every window: a caption, a class or a start code.
    unconditional: tokens of the same shape without content, for classifier-free guidance; None where a transformer
        has none.
    spatial: codes (b, h, w) on the grid that is predicted, which are read window by window after the prefix: another
        picture's, or the picture's own with the config's ``mask_code`` where they are unknown.
    """

    prefix: Tensor | None = None
    unconditional: Tensor | None = None
    spatial: Tensor | None = None

    @property
    def main(self) -> Tensor:
        """The spatial codes, or the prefix if there are none: the part that decides batch size and device."""
        part = self.prefix if self.spatial is None else self.spatial
        if part is None:
            raise ValueError("the condition is empty; it needs a prefix or spatial codes")
        return part

    def expand(self, count: int) -> Condition:
        """Repeat every part that has a single row to ``count`` rows."""

        def repeated(part: Tensor | None) -> Tensor | None:
            return part if part is None or len(part) == count else part.expand(count, *part.shape[1:])

        return Condition(*map(repeated, self))

    def with_guidance(self) -> Condition:
        """Stack the condition and its unconditional counterpart (2b rows), as classifier-free guidance reads them."""
        if self.unconditional is None or self.prefix is None:
            return self
        spatial = None if self.spatial is None else self.spatial.repeat(2, 1, 1)
        return Condition(torch.cat([self.prefix, self.unconditional]), None, spatial)


def check_condition(gpt: GPT, settings: SampleSettings | ScoreSettings) -> None:
    """UserError if the settings contain a condition that this transformer cannot read, or lack one that it needs."""
    c = gpt.config
    if isinstance(settings, SampleSettings) and settings.prompt and not c.text_dim:
        raise UserError(f"prompt {settings.prompt!r}: this transformer reads no captions; omit it")
    if settings.label and not c.classes:
        raise UserError(f"label {settings.label!r}: this transformer has no classes; omit it")
    reads_pairs = c.spatial and c.mask_code < 0
    if settings.condition and not reads_pairs:
        raise UserError(f"condition {settings.condition!r}: this transformer reads no other picture; omit it")
    if reads_pairs and not settings.condition:
        raise UserError("this transformer reads another picture's codes; name that picture with condition")


def condition_from_settings(
    gpt: GPT, settings: SampleSettings | ScoreSettings, device: torch.device, clip: CLIP | None = None
) -> Condition:
    """The condition (1 row) that prompt and label describe, without spatial codes; check the settings first.

    clip: the CLIP that embeds the prompt; needed only where there is one.
    """
    if isinstance(settings, SampleSettings) and settings.prompt and clip is not None:
        return caption_condition(gpt, clip, [settings.prompt])
    if gpt.config.classes and not gpt.config.text_dim and not gpt.config.spatial:
        return class_condition(gpt, settings.label, device)
    return empty_condition(gpt, device)


@torch.no_grad()
def caption_condition(gpt: GPT, clip: CLIP, texts: Sequence[str], styles: Tensor | None = None) -> Condition:
    """Captions as tokens, a row a text.

    styles: (n,) indices into the config's styles, 0 for any; a single text is repeated for each of them.
    """
    count = len(texts) if styles is None else len(styles)
    text, words = clip.embed_text(list(texts)), clip.embed_words(list(texts), gpt.config.words)
    style = (torch.zeros(count, dtype=torch.int64) if styles is None else styles).to(text.device)
    caption = CaptionEmbedding(text.expand(count, -1), words.expand(count, -1, -1), style)
    return Condition(gpt.embed_caption(caption), gpt.no_caption.expand(count, -1, -1))


@torch.no_grad()
def class_condition(gpt: GPT, label: str, device: torch.device) -> Condition:
    """A class as a token; an empty label is "no class" where the transformer has learned one, else a UserError."""
    if not label and gpt.config.has_class_embedding:
        return empty_condition(gpt, device)
    index = torch.tensor([class_index(gpt, label)], device=device)
    return Condition(gpt.embed_class(index), empty_condition(gpt, device).unconditional)


@torch.no_grad()
def empty_condition(gpt: GPT, device: torch.device) -> Condition:
    """The condition (1 row) without content: no caption, no class or the start code.

    Without any part for a transformer that reads spatial codes alone: add them, :func:`mask_codes` for none known.
    """
    config = gpt.config
    if config.text_dim:
        return Condition(gpt.no_caption)
    if config.spatial:
        return Condition()
    if config.has_class_embedding:
        nothing = gpt.embed_class(torch.tensor([config.classes], device=device))
        return Condition(nothing, nothing)
    if config.classes:
        return Condition()
    return Condition(gpt.embed_prefix_codes(torch.zeros(1, 1, dtype=torch.int64, device=device)))


@torch.no_grad()
def encode_condition(picture: Image.Image, vqgan: VQGAN, gpt: GPT, device: torch.device) -> Tensor:
    """Encode the other picture that a transformer reads to spatial codes (1, h, w).

    UserError if the VQGAN uses codes beyond the transformer's vocabulary.
    """
    codes = vqgan.encode(to_tensor(picture).to(device))
    if int(codes.max()) >= gpt.config.vocab_size:
        raise UserError(
            f"the VQGAN makes code {int(codes.max())} of the condition, but the transformer reads"
            f" {gpt.config.vocab_size}; choose the one that it was trained with"
        )
    return codes


def mask_codes(gpt: GPT, codes: Tensor, known: Tensor | None = None) -> Tensor:
    """A picture's own codes (b, h, w) as spatial codes: ``mask_code`` except where ``known`` (h, w) is true.

    known: None if nothing is.
    """
    if known is None:
        return torch.full_like(codes, gpt.config.mask_code)
    return torch.where(known.to(codes.device), codes, gpt.config.mask_code)


def embed_condition(
    gpt: GPT,
    caption: CaptionEmbedding | None = None,
    codes: Tensor | None = None,
    label: Tensor | None = None,
    dropped: Tensor | None = None,
) -> Tensor:
    """All tokens (b, p, d) in front of the codes of a whole window, as training reads them.

    codes: (b, n) of a start code or in raster order. label: (b,) classes. dropped: (b,) bool, rows whose caption or
    class is replaced by "no caption" or "no class" (Ho and Salimans 2022, arXiv 2207.12598, algorithm 1).
    """
    parts = []
    if caption is not None:
        parts.append(gpt.embed_caption(caption, dropped))
    if codes is not None:
        parts.append(gpt.embed_prefix_codes(codes))
    if label is not None:
        if dropped is not None and gpt.config.has_class_embedding:
            label = torch.where(dropped, gpt.config.classes, label)
        parts.append(gpt.embed_class(label))
    return torch.cat(parts, 1)


def class_index(gpt: GPT, label: str) -> int:
    """The index of a class, given its name or index as text. UserError lists the classes that exist."""
    names, count = gpt.config.class_names, gpt.config.classes
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < count:
        return int(label)
    known = f"; there are {', '.join(names)}" if names else f"; there are 0 to {count - 1}"
    raise UserError(f"there is no class {label!r}{known}" if label else f"this transformer needs a class{known}")
