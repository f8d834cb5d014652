"""How likely a transformer finds a grid of codes: p(s) = Π p(s_i | s_<i), and the surprise of every code.

Knows code indices and grid positions; nothing about pixels or prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vqtools.models.gpt import GPT
from vqtools.sampling.condition import Condition
from vqtools.sampling.sampler import WindowContext
from vqtools.sampling.window import Cell, Origin, Window

TOKENS_PER_PASS = 4096  # tokens that are read in one pass, about


@torch.no_grad()
def predict_log_probs(
    gpt: GPT, codes: Tensor, condition: Condition, stride: tuple[int, int] = (1, 1)
) -> Iterator[tuple[list[Cell], Tensor]]:
    """What is expected in every cell of one grid (1, h, w), given the cells before it: cells, and their ln p (n, v).

    condition, caption, stride: as a :class:`Scorer`'s. Windows are read several at once, as many cells then are given.
    """
    context = _build_context(gpt, codes, condition, stride)
    window = context.window
    cells = [(row, column) for row in range(window.height) for column in range(window.width)]
    windows = list(window.readings(cells).items())
    count = max(1, TOKENS_PER_PASS // gpt.config.block_size)
    for first in range(0, len(windows), count):
        these = windows[first : first + count]
        expected = _window_log_probs(context, these)
        yield [cell for _, drawn in these for cell in drawn], torch.cat([one[0] for one in expected])


def _build_context(gpt: GPT, codes: Tensor, condition: Condition, stride: tuple[int, int]) -> WindowContext:
    height, width = codes.shape[1:]
    if int(codes.max()) >= gpt.config.num_codes:
        raise ValueError(f"code {int(codes.max())} is beyond the {gpt.config.num_codes} that the transformer draws")
    window = Window(height, width, gpt.config.grid, gpt.config.prefix_length, stride)
    # beyond a grid narrower than the window nothing is known: its last column goes on
    columns = torch.arange(window.columns, device=codes.device).clamp(max=width - 1)
    return WindowContext(gpt, window, codes[:, :, columns], condition)


def _window_log_probs(context: WindowContext, windows: Sequence[tuple[Origin, list[Cell]]]) -> list[Tensor]:
    """For each of the windows the ln p (b, n, v) of the cells that are drawn in it; all are read in one pass."""
    gpt, needed = context.gpt, context.window.tokens_before
    stop = max(needed(*cells[-1]) for _, cells in windows)
    readings = [context.reading(origin, stop) for origin, _ in windows]
    prefixes = [reading.prefix for reading in readings if reading.prefix is not None]
    logits = gpt(torch.cat([reading.codes for reading in readings]), torch.cat(prefixes))[..., : gpt.config.num_codes]
    found = []
    for (_, cells), part in zip(windows, logits.split(len(readings[0].codes)), strict=True):
        places = torch.tensor([needed(*cell) - 1 for cell in cells], device=logits.device)
        found.append(part[:, places].float().log_softmax(-1))
    return found


class Scorer:
    """The surprise -ln p(s_i | s_<i) of each code (b, h, w), as the window sees it; ``step()`` reads one window.

    condition, caption: as a Sampler's. The product over all cells is a probability whatever the stride, for every
    cell sees only cells before it; with a stride of (1, 1) it is the one that exact sampling draws from.
    """

    def __init__(
        self,
        gpt: GPT,
        codes: Tensor,
        condition: Condition,
        stride: tuple[int, int] = (1, 1),
    ) -> None:
        height, width = codes.shape[1:]
        self.gpt, self.codes = gpt, codes
        self.context = _build_context(gpt, codes, condition, stride)
        self.window = self.context.window
        cells = [(row, column) for row in range(height) for column in range(width)]
        self.windows = list(self.window.readings(cells).items())
        self.nats = torch.full(codes.shape, torch.nan)
        self.position, self.total = 0, len(self.windows)

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Read one window, and score the codes that are drawn in it."""
        origin, cells = self.windows[self.position]
        (expected,) = _window_log_probs(self.context, [(origin, cells)])
        rows, columns = torch.tensor(cells).T
        chosen = self.codes[:, rows, columns]
        nats = -expected.gather(2, chosen[..., None])[..., 0]
        self.nats[:, rows, columns] = nats.cpu()
        self.position += 1
        return {"nats per code": float(nats.mean())}

    def preview(self) -> None:
        """Nothing to see before the end."""

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "nats": self.nats.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self.nats.copy_(state["nats"])
