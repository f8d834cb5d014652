"""The likelihood prior: a loss on latents that is low where a transformer finds their codes likely.

The transformer reads the current codes and predicts p(s_i | s_<i) for every cell (Esser et al. 2021, arXiv 2012.09841,
section 3.2). Codes have no gradient, so each latent counts as a soft mixture of the codes near it. Knows latents,
codes and a transformer that is passed in; nothing about pixels.

Shapes: c dimensions of a latent, h and w its grid, k codes that may be used, n cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.quantizers import nearest_codes
from vqtools.painting.prompts import first_attracting_text, parse_prompts
from vqtools.painting.renderers import CodeRenderer, Renderer
from vqtools.sampling.condition import Condition, caption_condition, empty_condition, mask_codes
from vqtools.sampling.likelihood import predict_log_probs
from vqtools.sampling.window import Cell

NEIGHBOURS = 4  # nearest codes whose mean distance is the scale of the soft mixture


class CodeLikelihood(Protocol):
    """Predicts the codes of a grid, as a transformer does."""

    def __call__(self, codes: Tensor, prompt: str) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """Predict codes (1, h, w): yields cells (row, column), some at a time, with log-probabilities (n, v).

        UserError if there is no transformer that fits.
        """


def loss_and_gradient(
    latents: Tensor, drawer: Renderer, likelihood: CodeLikelihood | None, prompt: str
) -> tuple[float, Tensor]:
    """Expected negative log-likelihood of latents (1, c, h, w) in nats per cell, and its gradient on them.

    The mean over cells of -Σ_k q_k ln p_k, with q the softmax of the negative squared distances to the codes divided
    by :func:`spacing`. The effect of a cell on the predictions of later cells has no gradient.
    """
    if not isinstance(drawer, CodeRenderer):
        raise UserError("prior: pixels have no codes; use the vqgan renderer, or set prior 0")
    if likelihood is None:
        raise UserError("prior: there is no transformer; choose one, or set prior 0")
    vectors = drawer.vqgan.quantize.flatten(latents.detach())
    chosen, width = nearest_codes(vectors, drawer.codebook), latents.shape[3]
    codes = chosen if drawer.codes is None else drawer.codes[chosen]
    total, gradient = 0.0, torch.zeros_like(vectors)
    for cells, log_p in likelihood(codes.view(1, -1, width), prompt):
        at = torch.tensor([row * width + column for row, column in cells], device=vectors.device)
        expected = log_p if drawer.codes is None else log_p[:, drawer.codes]
        loss, gradient[at] = _expected_nll(vectors[at], chosen[at], drawer.codebook, expected, len(vectors))
        total += loss
    with torch.enable_grad():  # where codes are of unit length, latents are not
        leaf = latents.detach().requires_grad_()
        (on_latents,) = torch.autograd.grad(drawer.vqgan.quantize.flatten(leaf), leaf, gradient)
    return total, on_latents


def _expected_nll(vectors: Tensor, chosen: Tensor, codebook: Tensor, log_p: Tensor, cells: int) -> tuple[float, Tensor]:
    """The contribution of vectors (n, c) to the mean over all ``cells``, and its gradient (n, c)."""
    book = codebook.float()
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_()
        probabilities = F.softmax(-_squared_distances(leaf, book) / spacing(chosen, book)[:, None], dim=1)
        loss = -(probabilities * log_p).sum() / cells
        (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def spacing(chosen: Tensor, codebook: Tensor) -> Tensor:
    """The scale of the soft mixture around each code (n,): half the mean squared distance (n,) to its nearest codes.

    A larger scale makes the mixture likelier instead of the nearest codes; with a much smaller one few latents have a
    gradient.
    """
    count = min(NEIGHBOURS + 1, len(codebook))
    around = _squared_distances(codebook[chosen], codebook).topk(count, largest=False).values
    return around.sum(1).div(2 * max(1, count - 1)).clamp(min=1e-8)  # the distance to the code itself is 0


def _squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances (n, k)."""
    # |v|² + |e|² - 2 v·e: the differences themselves would be a tensor of n · k · c
    return (vectors.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * vectors @ codebook.T).clamp(min=0)


class TransformerLikelihood:
    """Predicts the codes of a grid with a transformer, whose window moves by half its side.

    The prompt is its caption if the window covers the whole picture.

    load: called once, when first needed; returns the transformer and the CLIP whose captions it reads, or None to
        use no captions. UserError if no transformer fits.
    """

    def __init__(self, load: Callable[[], tuple[GPT, CLIP | None]], machine: Machine) -> None:
        self._load, self.machine = load, machine
        self._cached: tuple[str, Condition] | None = None  # for the prompt of the last call

    @cached_property
    def _networks(self) -> tuple[GPT, CLIP | None]:
        gpt, clip = self._load()
        if not gpt.config.prefix_length:
            raise UserError("prior: this transformer cannot predict the first code; choose one with a prefix")
        if gpt.config.spatial and gpt.config.mask_code < 0:
            raise UserError("prior: this transformer reads another picture's codes; choose one that reads none")
        gpt = gpt.to(self.machine.device)
        return pack_linear_layers(gpt) if self.machine.precision == "fp32" else gpt, clip

    def prepare(self) -> None:
        """Load the transformer now. UserError if none fits."""
        _ = self._networks

    def __call__(self, codes: Tensor, prompt: str) -> Iterator[tuple[list[Cell], Tensor]]:
        """Yield the log-probabilities that the transformer assigns to the codes of some cells, window by window."""
        gpt, _ = self._networks
        if max(codes.shape[1:]) > gpt.config.grid:
            prompt = ""  # a window on a part of the picture should not expect its whole subject there
        if self._cached is None or self._cached[0] != prompt:
            self._cached = prompt, self._build_condition(prompt)
        condition, stride = self._cached[1], max(1, gpt.config.grid // 2)
        if gpt.config.spatial:  # the likelihood of a picture that is sampled from nothing: no code is known
            condition = condition._replace(spatial=mask_codes(gpt, codes))
        parts = predict_log_probs(gpt, codes, condition, (stride, stride))
        while True:
            # entered for each part: the code that runs between parts has its own precision
            with self.machine.autocast():
                part = next(parts, None)
            if part is None:
                return
            yield part

    def _build_condition(self, prompt: str) -> Condition:
        """The prompt's first text of positive weight as a caption if captions are read, else the empty condition."""
        gpt, clip = self._networks
        if gpt.config.text_dim and clip is not None and prompt:
            text = first_attracting_text(parse_prompts(prompt))
            if text:
                return caption_condition(gpt, clip, [text])
        condition = empty_condition(gpt, self.machine.device)
        if condition.prefix is None and not gpt.config.spatial:
            raise UserError("prior: this transformer needs a class; choose one that needs none")
        return condition
