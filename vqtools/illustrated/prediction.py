"""Figures of stage 2: the distribution of the next code, negative log-likelihoods, and the sliding window.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.2: p(s) = Π p(s_i | s_<i). Knows nothing about CLIP guidance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.core.job import finish
from vqtools.illustrated.attention import AttentionFigure
from vqtools.illustrated.cell_picker import pick_cell
from vqtools.illustrated.codebook import decode_each_code
from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.representations import decode_codes
from vqtools.illustrated.style import BLUE, GREEN, GREY, INK, ORANGE, RED, new_figure, outline, show, svg_figure
from vqtools.media.image import to_picture
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.condition import Condition, caption_condition, empty_condition
from vqtools.sampling.likelihood import Scorer
from vqtools.sampling.sampler import NoiseSource, Sampler, cell_noise
from vqtools.sampling.window import Window

UNKNOWN = 0.85  # grey level, in [-1, 1], of the parts of a picture that the transformer has not read yet


class NextCodeFigure:
    """A transformer's prediction for each cell of an image (1, 3, H, W); call it with a cell to draw the figure."""

    def __init__(self, image: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
        self.vqgan = vqgan
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]
            logits = gpt(self.codes.view(1, -1), gpt.no_caption)[0]
        prefix = gpt.config.prefix_length
        height, width = self.codes.shape
        # the logits at a position predict the token after it
        logits = logits[prefix - 1 : prefix - 1 + height * width, : gpt.config.num_codes]
        self.probabilities = logits.float().softmax(-1).view(height, width, -1)  # (h, w, v)

    @property
    def nats(self) -> Tensor:
        """-ln p(s_i | s_<i) of each code (h, w)."""
        own: Tensor = self.probabilities.gather(2, self.codes[..., None])[..., 0]
        return -own.log()

    def top_codes(self, row: int, column: int, count: int = 12) -> tuple[Tensor, Tensor]:
        """Return the most probable codes (count,) of a cell and their probabilities (count,)."""
        top = self.probabilities[row, column].topk(count)
        return top.indices, top.values

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        """Draw what precedes a cell, the twelve most probable codes, and the cumulative distribution."""
        figure = new_figure(10.4, 3.5)
        known, likeliest, cumulative = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.9, 1.1]})
        f = self.vqgan.f
        show(known, _hide_from(decode_codes(self.vqgan, self.codes), row, column, f), "what the transformer has read")
        outline(known, row * f, column * f, f, f)
        self._draw_top_codes(likeliest, row, column)
        self._draw_cumulative(cumulative, row, column)
        return figure

    def _rank(self, row: int, column: int) -> int:
        """Rank of the true code of a cell, 1 for the most probable."""
        p = self.probabilities[row, column]
        return int((p > p[self.codes[row, column]]).sum()) + 1

    def _draw_top_codes(self, ax: Axes, row: int, column: int, count: int = 12) -> None:
        """Draw the most probable codes as bars, each with its decoded image below."""
        codes, probabilities = self.top_codes(row, column, count)
        true_code, height = int(self.codes[row, column]), float(probabilities[0])
        colours = [RED if code == true_code else BLUE for code in codes.tolist()]
        bars = ax.bar(range(count), probabilities.tolist(), color=colours)
        ax.bar_label(bars, [f"{p:.0%}" for p in probabilities.tolist()], fontsize=7.5, padding=1, color=INK)
        ax.set_ylim(-0.22 * height, 1.12 * height)
        ax.set_yticks([])
        ax.set_xticks(range(count), [str(code) for code in codes.tolist()], rotation=60)
        for x, tile in enumerate(decode_each_code(self.vqgan, codes)):
            inset = ax.inset_axes((x - 0.4, -0.2 * height, 0.8, 0.17 * height), transform=ax.transData)
            show(inset, tile, aspect="auto")
        ax.spines[["left", "bottom"]].set_visible(False)
        note = " (true code red)" if self._rank(row, column) <= count else ""
        ax.set_title(f"p(next code | codes before it): the twelve most probable{note}")

    def _draw_cumulative(self, ax: Axes, row: int, column: int) -> None:
        """Draw the sum of the probabilities over the codes' ranks, and the rank of the true code."""
        p, true_code, rank = self.probabilities[row, column], int(self.codes[row, column]), self._rank(row, column)
        cumulative = p.sort(descending=True).values.cumsum(0)
        ax.plot(range(1, len(cumulative) + 1), cumulative.tolist(), color=GREY)
        ax.plot([rank], [float(cumulative[rank - 1])], "o", color=RED)
        ax.set_xscale("log")
        ax.set_ylim(0, 1.03)
        ax.set_xlabel("codes, most probable first")
        ax.set_ylabel("cumulative probability")
        entropy = float(-(p * p.clamp(min=1e-30).log2()).sum())
        title = f"true code {true_code}: rank {rank}, p = {float(p[true_code]):.2g}\n"
        ax.set_title(title + f"entropy {entropy:.1f} of at most {math.log2(len(p)):.0f} bits")


def _hide_from(image: Tensor, row: int, column: int, f: int) -> Tensor:
    """Return an image (3, H, W) whose cells of f × f pixels, from this one on in raster order, are grey."""
    image = image.clone()
    image[:, row * f : (row + 1) * f, column * f :] = UNKNOWN
    image[:, (row + 1) * f :] = UNKNOWN
    return image


def next_code(image: Tensor, vqgan: VQGAN, gpt: GPT) -> widgets.VBox:
    """Return a clickable image (1, 3, H, W): which codes the transformer predicts for a cell from those before it."""
    figure = NextCodeFigure(image, vqgan, gpt)
    height, width = figure.codes.shape
    return pick_cell(figure, to_picture(image), height, width, (height // 2, width // 2))


def attention_maps(image: Tensor, vqgan: VQGAN, gpt: GPT) -> widgets.VBox:
    """Return a clickable image (1, 3, H, W): which earlier codes the transformer attends to when it predicts a cell."""
    figure = AttentionFigure(image, vqgan, gpt)
    height, width = figure.codes.shape
    return pick_cell(figure, to_picture(image), height, width, (height // 2 + 1, width // 2 + 1))


@torch.no_grad()
def code_nll(codes: Tensor, gpt: GPT) -> Tensor:
    """Return -ln p(s_i | s_<i) of each code (h, w), without a caption, through the sliding window."""
    return finish(Scorer(gpt, codes[None], Condition(gpt.no_caption))).nats[0]


class ScoredCodes(NamedTuple):
    """A grid of codes and the negative log-likelihood of each."""

    name: str
    codes: Tensor  # (h, w)
    nats: Tensor  # (h, w)

    @property
    def bits(self) -> float:
        """Mean negative log-likelihood in bits per code."""
        return float(self.nats.mean()) / math.log(2)


def score_variants(image: Tensor, vqgan: VQGAN, gpt: GPT, seed: int = 0) -> list[ScoredCodes]:
    """Score the codes of an image (1, 3, H, W), of the image upside down, and the same codes in random order."""
    with torch.no_grad():
        codes = vqgan.encode(image)[0]
        flipped = vqgan.encode(image.flip(2))[0]
    order = torch.randperm(codes.numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = codes.flatten()[order].view(codes.shape)
    variants = (("the picture", codes), ("upside down", flipped), ("the same codes, shuffled", shuffled))
    return [ScoredCodes(name, grid, code_nll(grid, gpt)) for name, grid in variants]


@svg_figure
def nll_maps(image: Tensor, vqgan: VQGAN, gpt: GPT) -> Figure:
    """Draw the negative log-likelihood of each code of three variants of an image, and ln p(s) as codes are read."""
    variants = score_variants(image, vqgan, gpt)
    largest = max(float(variant.nats.max()) for variant in variants)
    figure = new_figure(10.4, 4.6)
    grid = figure.subplots(2, 4, gridspec_kw={"width_ratios": [1, 1, 1, 1.5]})
    for upper, lower, variant in zip(grid[0], grid[1], variants, strict=False):
        show(upper, decode_codes(vqgan, variant.codes), variant.name)
        plane = lower.imshow(variant.nats.numpy(), cmap="inferno", vmin=0, vmax=largest)
        lower.set_axis_off()
        lower.set_title(f"{variant.bits:.1f} bits per code")
    label = r"$-\ln p(s_i \mid s_{<i})$ in nats"
    figure.colorbar(plane, ax=grid[1][:3], label=label, location="bottom", shrink=0.4, aspect=30)
    for ax in grid[:, 3]:
        ax.remove()
    curves = figure.add_subplot(grid[0][3].get_gridspec()[:, 3])
    for variant, colour in zip(variants, (GREEN, ORANGE, RED), strict=True):
        curves.plot((-variant.nats.flatten().cumsum(0)).tolist(), label=variant.name, color=colour)
    curves.set_title(r"$\ln p(s) = \sum_i \ln p(s_i \mid s_{<i})$")
    curves.set_xlabel("codes read")
    curves.legend(loc="lower left")
    return figure


class SlidingWindowFigure:
    """The sliding window over a grid of codes in raster order; call it with a step to draw the figure.

    ``picture`` (3, H, W) is the decoded grid; without it only the window is drawn.
    """

    def __init__(self, height: int, width: int, side: int, picture: Tensor | None = None) -> None:
        self.window = Window(height, width, side, together=False)
        self.cells = self.window.cells()
        self.picture = picture

    def window_at(self, step: int) -> tuple[tuple[int, int], tuple[int, int], int]:
        """Return the cell sampled at a step, the origin of its window, and the number of known codes in the window."""
        cell = self.cells[step]
        return cell, self.window.origin(*cell), self.window.position(*cell)

    @svg_figure
    def __call__(self, step: int) -> Figure:
        """Draw the state of the grid at a step: known codes, those inside the window, and the code sampled next."""
        (row, column), (top, left), known = self.window_at(step)
        w, side = self.window, self.window.side
        state = torch.ones(w.height, w.width, 3)
        for r, c in self.cells[:step]:
            inside = top <= r < top + side and left <= c < left + side
            state[r, c] = torch.tensor([0.45, 0.66, 0.86] if inside else [0.78, 0.78, 0.78])
        state[row, column] = torch.tensor([0.82, 0.29, 0.36])
        columns = 2 if self.picture is not None else 1
        figure = new_figure(5.2 * columns, 5.0 * w.height / w.width + 0.6)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        show(axes[0], state.numpy(), f"step {step + 1} of {len(self.cells)}: {known} known codes in the window")
        outline(axes[0], top, left, side, side, RED)
        if self.picture is not None:
            f = self.picture.shape[1] // w.height
            show(axes[1], _hide_from(self.picture, row, column, f), "the picture so far")
            outline(axes[1], top * f, left * f, side * f, side * f, RED)
        return figure


def sample_codes(gpt: GPT, condition: Condition, height: int, width: int, noise: NoiseSource) -> Tensor:
    """Sample codes (n, height, width) for a condition of n rows, with the guidance and top-p of painting."""
    defaults = PaintSettings()
    return finish(
        Sampler(
            pack_linear_layers(gpt),
            height,
            width,
            condition,
            noise=noise,
            guidance=defaults.guidance,
            top_p=defaults.top_p,
        )
    ).codes


def sliding_window(
    gpt: GPT, vqgan: VQGAN, prompt: str, seed: int, *, height: int = 12, width: int = 24, clip: CLIP | None = None
) -> widgets.VBox:
    """Sample a picture of height × width codes, and return a slider over the steps of the sliding window.

    The prompt is used if the transformer reads captions and a CLIP is given.
    """
    if clip is not None and gpt.config.text_dim:
        condition = caption_condition(gpt, clip, [prompt])
    else:
        condition = empty_condition(gpt, gpt.tok_emb.weight.device)
    codes = sample_codes(gpt, condition, height, width, cell_noise(seed, 1, gpt.config.num_codes))
    figure = SlidingWindowFigure(height, width, gpt.config.grid, decode_codes(vqgan, codes[0]))
    start = len(figure.cells) * 5 // 8
    return interactive_figure(figure, step=slider("step", 0, len(figure.cells) - 1, start))
