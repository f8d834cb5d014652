"""Draw grids of codes from a GPT, a code at a time, several grids at once.

Knows code indices and grid positions; nothing about pixels or prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.models.gpt import GPT, Cache


def keep_top(logits: Tensor, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Logits (b, v) with all but the likeliest set to minus infinity.

    top_k: how many stay. top_p: the smallest set whose probabilities sum to at least this
    (Holtzman et al. 2020, arXiv 1904.09751).
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(descending=True)
        share = ordered.softmax(-1)
        before = share.cumsum(-1) - share
        logits = logits.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), -torch.inf)
    return logits


class Sampler:
    """Grids of codes (b, h, w), drawn in raster order; ``step()`` draws one row of all of them.

    prefix: the condition's tokens (b, p, width), see :meth:`GPT.prefix`; unconditional: those of "no caption", for
    classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): logits = u + scale · (c - u).
    """

    def __init__(
        self,
        gpt: GPT,
        prefix: Tensor,
        height: int,
        width: int,
        *,
        generator: torch.Generator,
        unconditional: Tensor | None = None,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
    ) -> None:
        if height * width + prefix.shape[1] > gpt.config.block_size + 1:
            raise ValueError(f"a grid of {width}x{height} does not fit a block of {gpt.config.block_size} tokens")
        self.gpt, self.generator, self.guidance = gpt, generator, guidance if unconditional is not None else 1.0
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.prefix = prefix if self.guidance == 1.0 else torch.cat([prefix, unconditional])  # type: ignore[list-item]
        self.codes = torch.zeros(len(prefix), height, width, dtype=torch.int64, device=prefix.device)
        self.cache = Cache()
        self.position, self.total = 0, height

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Draw the next row."""
        flat, width = self.codes.view(len(self.codes), -1), self.codes.shape[2]
        surprise = 0.0
        for cell in range(self.position * width, (self.position + 1) * width):
            last = flat[:, cell - 1 : cell] if cell else flat[:, :0]
            last = last.repeat(2, 1) if self.guidance != 1.0 else last
            logits = self.gpt(last, None if cell else self.prefix, self.cache)[:, -1].float()
            flat[:, cell] = self.draw(logits)
            surprise -= float(logits.log_softmax(-1)[: len(flat)].gather(1, flat[:, cell, None]).mean())
        self.position += 1
        return {"nats a code": surprise / width}

    def draw(self, logits: Tensor) -> Tensor:
        """One code for each grid. Noise is drawn for every code, so that a grid does not depend on the filter."""
        if self.guidance != 1.0:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + self.guidance * (conditional - unconditional)
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = keep_top(logits / self.temperature, self.top_k, self.top_p)
        uniform = torch.rand(logits.shape, generator=self.generator).to(logits.device)
        return (logits - (-uniform.clamp(1e-10, 1 - 1e-7).log()).log()).argmax(-1)  # Gumbel's trick

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "codes": self.codes.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Codes and generator come back; the cache is read again from the codes."""
        self.position = state["position"]
        self.codes.copy_(state["codes"])
        self.generator.set_state(state["generator"])
        self.cache = Cache()
        seen = self.position * self.codes.shape[2]
        if seen:
            flat = self.codes.view(len(self.codes), -1)[:, : seen - 1]
            with torch.no_grad():
                self.gpt(flat.repeat(2, 1) if self.guidance != 1.0 else flat, self.prefix, self.cache)
