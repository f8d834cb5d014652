"""The likelihood of a grid of codes under a transformer: p(s | c) = Π p(s_i | s_<i, c).

Esser, Rombach and Ommer 2021, arXiv 2012.09841, equation 10. Knows code indices and grid positions; nothing about
pixels or prompts.
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

TOKENS_PER_PASS = 4096  # approximate number of tokens in one pass of the transformer


@torch.no_grad()
def predict_log_probs(
    gpt: GPT, codes: Tensor, condition: Condition, stride: tuple[int, int] = (1, 1)
) -> Iterator[tuple[list[Cell], Tensor]]:
    """Predict every cell of one grid (1, h, w) from the cells before it.

    Yields cells with the log-probabilities (n, v) of all codes in them, for several windows at a time. condition,
    stride: see :class:`Scorer`.
    """
    context = _build_context(gpt, codes, condition, stride)
    window = context.window
    cells = [(row, column) for row in range(window.height) for column in range(window.width)]
    windows = list(window.readings(cells).items())
    count = max(1, TOKENS_PER_PASS // gpt.config.block_size)
    for first in range(0, len(windows), count):
        group = windows[first : first + count]
        log_probs = _window_log_probs(context, group)
        yield [cell for _, cells in group for cell in cells], torch.cat([part[0] for part in log_probs])


def _build_context(gpt: GPT, codes: Tensor, condition: Condition, stride: tuple[int, int]) -> WindowContext:
    height, width = codes.shape[1:]
    if int(codes.max()) >= gpt.config.num_codes:
        raise ValueError(
            f"code {int(codes.max())} is beyond the {gpt.config.num_codes} codes that the transformer predicts"
        )
    window = Window(height, width, gpt.config.grid, gpt.config.prefix_length, stride)
    # a grid narrower than the window is extended by its last column
    columns = torch.arange(window.columns, device=codes.device).clamp(max=width - 1)
    return WindowContext(gpt, window, codes[:, :, columns], condition)


def _window_log_probs(context: WindowContext, windows: Sequence[tuple[Origin, list[Cell]]]) -> list[Tensor]:
    """For each window the log-probabilities (b, n, v) of the cells predicted in it, all in one pass."""
    gpt, needed = context.gpt, context.window.tokens_before
    stop = max(needed(*cells[-1]) for _, cells in windows)
    readings = [context.reading(origin, stop) for origin, _ in windows]
    prefixes = [reading.prefix for reading in readings if reading.prefix is not None]
    logits = gpt(torch.cat([reading.codes for reading in readings]), torch.cat(prefixes))[..., : gpt.config.num_codes]
    log_probs = []
    for (_, cells), part in zip(windows, logits.split(len(readings[0].codes)), strict=True):
        positions = torch.tensor([needed(*cell) - 1 for cell in cells], device=logits.device)
        log_probs.append(part[:, positions].float().log_softmax(-1))
    return log_probs


class Scorer:
    """The negative log-likelihood -ln p(s_i | s_<i, c) of each code (b, h, w) in nats; ``step()`` reads one window.

    condition: as a Sampler's. The product over all cells is a probability for every stride, because a cell depends
    only on cells before it; with stride (1, 1) it is the distribution that exact sampling draws from.
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
        """Read one window and score the codes predicted in it; reports their mean."""
        origin, cells = self.windows[self.position]
        (log_probs,) = _window_log_probs(self.context, [(origin, cells)])
        rows, columns = torch.tensor(cells).T
        codes = self.codes[:, rows, columns]
        nats = -log_probs.gather(2, codes[..., None])[..., 0]
        self.nats[:, rows, columns] = nats.cpu()
        self.position += 1
        return {"nats per code": float(nats.mean())}

    def preview(self) -> None:
        """There is no picture to show."""

    def state_dict(self) -> dict[str, Any]:
        """Position and scores so far."""
        return {"position": self.position, "nats": self.nats.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.position = state["position"]
        self.nats.copy_(state["nats"])
