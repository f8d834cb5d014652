"""How likely a transformer finds a grid of codes: p(s) = Π p(s_i | s_<i), and the surprise of every code.

Knows code indices and grid positions; nothing about pixels or prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.models.gpt import GPT
from vqtools.sampling.sampler import Context
from vqtools.sampling.window import Window


class Scorer:
    """The surprise -ln p(s_i | s_<i) of each code (b, h, w), as the window sees it; ``step()`` reads one window.

    condition, caption: as a Sampler's. The product over all cells is a probability whatever the stride, for every
    cell sees only cells before it; with a stride of (1, 1) it is the one that exact sampling draws from.
    """

    def __init__(
        self,
        gpt: GPT,
        codes: Tensor,
        condition: Tensor,
        stride: tuple[int, int] = (1, 1),
        caption: Tensor | None = None,
    ) -> None:
        height, width = codes.shape[1:]
        if int(codes.max()) >= gpt.config.drawable:
            raise ValueError(f"code {int(codes.max())} is beyond the {gpt.config.drawable} that the transformer draws")
        self.gpt, self.codes = gpt, codes
        self.window = Window(height, width, gpt.config.grid, gpt.config.prefix, stride)
        # beyond a grid narrower than the window nothing is known: its last column goes on
        columns = torch.arange(self.window.columns, device=codes.device).clamp(max=width - 1)
        self.context = Context(gpt, self.window, codes[:, :, columns], condition, caption)
        cells = [(row, column) for row in range(height) for column in range(width)]
        self.windows = list(self.window.readings(cells).items())
        self.nats = torch.full(codes.shape, torch.nan)
        self.position, self.total = 0, len(self.windows)

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Read one window, and score the codes that are drawn in it."""
        origin, cells = self.windows[self.position]
        reading = self.context.reading(origin, self.window.needed(*cells[-1]))
        logits = self.gpt(reading.codes, reading.prefix)[..., : self.gpt.config.drawable]
        rows, columns = torch.tensor(cells).T
        places = torch.tensor([self.window.needed(*cell) - 1 for cell in cells])
        chosen = self.codes[:, rows, columns]
        nats = -logits[:, places].float().log_softmax(-1).gather(2, chosen[..., None])[..., 0]
        self.nats[:, rows, columns] = nats.cpu()
        self.position += 1
        return {"nats a code": float(nats.mean())}

    def preview(self) -> None:
        """Nothing to see before the end."""

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "nats": self.nats.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self.nats.copy_(state["nats"])
