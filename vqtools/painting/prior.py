"""The likelihood prior: a pull towards codes that a transformer of the same VQGAN expects beside each other.

The transformer reads the codes as they are, and says for every cell which it would expect there, p(s_i | s_<i) (Esser
et al. 2021, arXiv 2012.09841, section 3.2). Codes have no gradient, so the latents are read softly: each cell is every
code a little, the more the nearer. Knows latents and codes; nothing about transformers, windows or pixels.

Shapes: c dimensions of a latent, h and w its grid, k codes that may be used, n cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.models.quantizers import nearest_codes
from vqtools.painting.drawers import CodeRenderer, Renderer
from vqtools.settings import UserError

NEIGHBOURS = 4  # codes around a code that say how far apart codes lie there


class CodeLikelihood(Protocol):
    """A transformer, as far as painting needs one."""

    def __call__(self, codes: Tensor, prompt: str) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """Codes (1, h, w) of a picture of a prompt -> all cells (row, column), some at a time, and their ln p (n, v).

        UserError where there is no transformer that fits.
        """


def loss_and_gradient(
    latents: Tensor, drawer: Renderer, likelihood: CodeLikelihood | None, prompt: str
) -> tuple[float, Tensor]:
    """Expected surprise of the latents (1, c, h, w) in nats a cell, and its gradient on them.

    The mean over cells of -Σ_k q_k ln p_k, q the softmax of minus the squared distance to each code, in units of
    :func:`spacing`. What a cell makes likely further on has no gradient.
    """
    if not isinstance(drawer, CodeRenderer):
        raise UserError("prior: bare pixels have no codes that could be likely; draw with the vqgan, or set prior 0")
    if likelihood is None:
        raise UserError("prior: there is no transformer to say what is likely; set prior 0")
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
    """What some of the cells, vectors (n, c), add to the mean over all of them, and its gradient (n, c)."""
    book = codebook.float()
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_()
        share = F.softmax(-_squared_distances(leaf, book) / spacing(chosen, book)[:, None], dim=1)
        loss = -(share * log_p).sum() / cells
        (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def spacing(chosen: Tensor, codebook: Tensor) -> Tensor:
    """How far around each of the codes (n,) latents are read: half the mean squared distance (n,) to the nearest.

    From wider around, a run makes the soft mixture likelier and not the codes that are drawn; from much nearer, few
    latents feel anything.
    """
    count = min(NEIGHBOURS + 1, len(codebook))
    around = _squared_distances(codebook[chosen], codebook).topk(count, largest=False).values
    return around.sum(1).div(2 * max(1, count - 1)).clamp(min=1e-8)  # the code itself adds nothing


def _squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances (n, k)."""
    # |v|² + |e|² - 2 v·e: the differences themselves would be n · k · c numbers
    return (vectors.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * vectors @ codebook.T).clamp(min=0)
