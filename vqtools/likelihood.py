"""What a transformer expects in a picture: the likelihood that a painting's prior asks for.

Puts a transformer, its captions and the window's walk together; knows nothing of latents or steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from vqtools.device import Machine
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, CaptionEmbedding, pack_linear_layers
from vqtools.painting.prompts import parse_prompts
from vqtools.sampling.score import predict_log_probs
from vqtools.sampling.window import Cell
from vqtools.settings import UserError


class TransformerLikelihood:
    """For every cell of a grid of codes, which code a transformer expects there; the window goes by half its side.

    It is told the prompt where its window sees the whole picture.

    load: brings the transformer, when it is first asked, and the CLIP whose captions it reads, None where that is not
        at hand: then it is told nothing. UserError where no transformer fits.
    """

    def __init__(self, load: Callable[[], tuple[GPT, CLIP | None]], machine: Machine) -> None:
        self._load, self.machine = load, machine
        self._told: tuple[str, Tensor | None] | None = None

    @cached_property
    def _networks(self) -> tuple[GPT, CLIP | None]:
        gpt, clip = self._load()
        if not gpt.config.prefix:
            raise UserError("prior: this transformer says nothing of the first code; take one with a prefix")
        if gpt.config.spatial and gpt.config.mask_code < 0:
            raise UserError("prior: this transformer reads another picture's codes; take one that reads none")
        gpt = gpt.to(self.machine.device)
        return pack_linear_layers(gpt) if self.machine.precision == "fp32" else gpt, clip

    def prepare(self) -> None:
        """Bring the transformer now; UserError where none fits."""
        _ = self._networks

    def __call__(self, codes: Tensor, prompt: str) -> Iterator[tuple[list[Cell], Tensor]]:
        gpt, _ = self._networks
        if max(codes.shape[1:]) > gpt.config.grid:
            prompt = ""  # a window that sees a part of the picture shall not expect all of its subject there
        if self._told is None or self._told[0] != prompt:
            self._told = prompt, self._before(prompt)
        told, stride = self._told[1], max(1, gpt.config.grid // 2)
        caption = told if gpt.config.spatial else None
        # nothing is known beforehand, where that is a condition: likely is what would be drawn from nothing
        condition = torch.full_like(codes, gpt.config.mask_code) if gpt.config.spatial else told
        assert condition is not None
        parts = predict_log_probs(gpt, codes, condition, (stride, stride), caption)
        while True:
            # entered anew for each part: what happens between them is not the transformer's
            with self.machine.autocast():
                part = next(parts, None)
            if part is None:
                return
            yield part

    @torch.no_grad()
    def _before(self, prompt: str) -> Tensor | None:
        """What stands before the codes (1, p, width): the prompt's first text that attracts, if captions are read."""
        gpt, clip = self._networks
        c = gpt.config
        if c.text_dim:
            asked = parse_prompts(prompt) if prompt else []
            texts = [one.text for one in asked if one.weight > 0 and not one.picture]
            if clip is None or not texts:
                return gpt.no_caption
            words, style = clip.embed_words(texts[:1], c.words), torch.zeros(1, dtype=torch.int64)
            return gpt.prefix(CaptionEmbedding(clip.embed_text(texts[:1]), words, style.to(self.machine.device)))
        if c.spatial:
            return None
        nothing = torch.tensor([c.classes if c.has_class_embedding else 0], device=self.machine.device)
        if c.classes and not c.has_class_embedding:
            raise UserError("prior: this transformer wants to know a class; take one that does without")
        return gpt.embed_class(nothing) if c.has_class_embedding else gpt.embed_prefix_codes(nothing[None])
