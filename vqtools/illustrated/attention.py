"""Figures of attention: its cost in the sequence's length, and what a transformer on codes attends to.

Vaswani et al. 2017, arXiv 1706.03762; Chen et al. 2020 (iGPT), ICML. Shapes: n tokens, d dimensions. Knows nothing
about sampling.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.representations import decode_codes
from vqtools.illustrated.style import BLUE, GREY, INK, ORANGE, RED, new_figure, outline, show, svg_figure
from vqtools.models.gpt import GPT
from vqtools.models.quantizers import kmeans, nearest_codes
from vqtools.models.vqgan import VQGAN

IGPT_TOKENS = 224 * 224 * 3  # one token per colour channel of each pixel of a picture of 224² pixels


def attention_pairs(n: int) -> int:
    """Return the number of weights that one head of attention computes for n tokens: n²."""
    return n * n


def format_number(number: float) -> str:
    """Format a number with three digits and a word from a million on: 1234567 becomes "1.23 million"."""
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if abs(number) >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}"


def self_attention(x: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / √d) v for q = k = v = x (n, d), with all n² weights in memory."""
    return torch.softmax(x @ x.T / math.sqrt(x.shape[1]), 1) @ x


@torch.no_grad()
def time_attention(lengths: tuple[int, ...], d: int = 64, repeats: int = 3) -> list[float]:
    """Measure the seconds that one head takes for sequences of these lengths: the fastest of the repeats."""
    fastest = []
    for n in lengths:
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(n))
        durations = []
        for _ in range(repeats):
            started = time.perf_counter()
            self_attention(x)
            durations.append(time.perf_counter() - started)
        fastest.append(min(durations))
    return fastest


def extrapolate_seconds(n: int, lengths: tuple[int, ...], seconds: list[float]) -> float:
    """Estimate the seconds for n tokens from the longest timed sequence, in proportion to n²."""
    return seconds[-1] * attention_pairs(n) / attention_pairs(lengths[-1])


@svg_figure
def attention_cost(codes: int = 144, longest: int = 4096) -> Figure:
    """Draw the time and the number of weights of one head of attention over the sequence's length.

    Sequences of up to ``longest`` tokens are timed on this machine; the time for iGPT's pixels is extrapolated.
    """
    figure = new_figure(10.4, 3.7)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.5, 1]})
    _draw_times(left, tuple(n for n in (256, 512, 1024, 2048, 4096) if n <= longest))
    names = [f"{codes} codes", "1,024 pixels (32²)", "4,096 pixels (64²)", f"{IGPT_TOKENS:,}"]
    values = [attention_pairs(n) for n in (codes, 1024, 4096, IGPT_TOKENS)]
    bars = right.barh(range(4), values, color=[ORANGE, BLUE, BLUE, RED], height=0.6)
    right.set_xscale("log")
    right.set_yticks(range(4), names)
    right.invert_yaxis()
    right.bar_label(bars, [format_number(value) for value in values], padding=4, fontsize=9, color=INK)
    right.set_xlim(1e3, max(values) * 300)
    right.set_title("weights in one head: n²")
    return figure


def _draw_times(ax: Axes, lengths: tuple[int, ...]) -> None:
    """Time attention for these lengths and plot it, extrapolated to IGPT_TOKENS."""
    seconds = time_attention(lengths)
    ax.loglog(lengths, seconds, "o-", color=BLUE, label="measured on this machine")
    ends = [lengths[-1], IGPT_TOKENS]
    extrapolated = [extrapolate_seconds(n, lengths, seconds) for n in ends]
    ax.loglog(ends, extrapolated, "--", color=GREY, label="extrapolated: grows with n²")
    ax.loglog([IGPT_TOKENS], extrapolated[1:], "o", color=RED)
    pairs = attention_pairs(IGPT_TOKENS)
    ax.annotate(
        f"224² × 3 = {IGPT_TOKENS:,} tokens\n{format_number(pairs)} weights\n"
        f"{4 * pairs / 1e9:.0f} GB in fp32, {extrapolated[1]:.0f} s",
        (IGPT_TOKENS, extrapolated[1]), xytext=(0.98, 0.06), textcoords="axes fraction", ha="right", va="bottom",
        color=RED, fontsize=9, arrowprops={"arrowstyle": "-", "color": RED, "linewidth": 0.7, "shrinkB": 6},
    )  # fmt: skip
    ax.set_xlabel("tokens n")
    ax.set_ylabel("seconds, one head of one layer")
    ax.legend(loc="upper left")


class Tokenisation(NamedTuple):
    """One way to turn a picture into a sequence of tokens."""

    name: str
    picture: Tensor  # (3, H, W) in [-1, 1], rebuilt from the tokens
    tokens: int
    bits: float  # per token

    @property
    def cost(self) -> int:
        """Weights that one head of attention computes for the sequence."""
        return attention_pairs(self.tokens)


@torch.no_grad()
def compare_tokenisations(image: Tensor, vqgan: VQGAN, side: int = 32, colours: int = 512) -> list[Tokenisation]:
    """Tokenise an image (1, 3, H, W) as raw values, as iGPT's pixels, as ViT's patches and as VQGAN's codes.

    iGPT downscales to 32² pixels and keeps 512 colours found by k-means (Chen et al. 2020); ViT takes patches of 16²
    pixels unchanged (Dosovitskiy et al. 2021, arXiv 2010.11929).
    """
    small = F.interpolate(image, size=(side, side), mode="area")[0]
    points = small.flatten(1).T
    k = min(colours, len(points))
    palette = kmeans(points, k, torch.Generator().manual_seed(0))
    igpt = palette[nearest_codes(points, palette)].T.view(3, side, side)
    height, width = image.shape[2:]
    codes = vqgan.encode(image)[0]
    patch = 16
    return [
        Tokenisation("each colour of each pixel", image[0], 3 * height * width, 8),
        Tokenisation(f"iGPT: {side}² pixels, {colours} colours", igpt, side * side, math.log2(colours)),
        Tokenisation("ViT: patches of 16² pixels", image[0], (height // patch) * (width // patch), 24.0 * patch**2),
        Tokenisation("VQGAN: codes", decode_codes(vqgan, codes), codes.numel(), math.log2(vqgan.config.codebook_size)),
    ]


@svg_figure
def sequence_costs(image: Tensor, vqgan: VQGAN) -> Figure:
    """Draw the four tokenisations of an image (1, 3, H, W): picture, length, size and cost of attention."""
    tokenisations = compare_tokenisations(image, vqgan)
    figure = new_figure(10.4, 3.9)
    for ax, item in zip(figure.subplots(1, len(tokenisations)), tokenisations, strict=True):
        show(ax, item.picture, item.name)
        caption = f"{item.tokens:,} tokens of {item.bits:,.0f} bits\n{item.tokens * item.bits / 8:,.0f} bytes in all\n"
        caption += f"attention: {format_number(item.cost)} weights"
        saving = tokenisations[0].cost / item.cost
        if saving > 1:
            caption += f"\n1/{saving:,.0f} of the first"
        ax.text(0.5, -0.06, caption, transform=ax.transAxes, ha="center", va="top", fontsize=9, color=INK)
    return figure


@torch.no_grad()
def attention_weights(gpt: GPT, codes: Tensor, prefix: Tensor) -> Tensor:
    """Return the attention weights (layers, heads, p + n, p + n) of a transformer that reads a prefix and codes.

    codes (1, n), prefix (1, p, width). Each row sums to 1 and is 0 for later tokens. Works for transformers with
    learned positions, as the starter; raises ValueError for rotary ones.
    """
    if gpt.config.rotary:
        raise ValueError(
            "attention maps are not available for transformers with rotary positions; choose the transformer starter"
        )
    layers: list[Tensor] = []

    def record(attention: Any, inputs: Any, _output: Any) -> None:
        x = inputs[0]
        n, d = x.shape[1], x.shape[2] // attention.heads
        q, k = (f(x).view(n, attention.heads, d).transpose(0, 1) for f in (attention.query, attention.key))
        scores = (q @ k.transpose(1, 2)) / math.sqrt(d)
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        layers.append(scores.masked_fill(later, -torch.inf).softmax(-1))

    hooks = [block.attn.register_forward_hook(record) for block in gpt.blocks]  # type: ignore[union-attr]
    try:
        gpt(codes, prefix)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(layers)


class AttentionFigure:
    """Attention of a transformer over the codes of an image (1, 3, H, W); call it with a cell to draw the figure."""

    def __init__(self, image: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]
        self.image = image
        self.weights = attention_weights(gpt, self.codes.view(1, -1), gpt.no_caption)
        self.prefix = gpt.config.prefix_length

    def weights_for(self, row: int, column: int) -> Tensor:
        """Return the weights (layers, heads, h, w) on all codes when the code of a cell is predicted."""
        height, width = self.codes.shape
        # a code is predicted at the position of the token before it
        weights = self.weights[:, :, self.prefix + row * width + column - 1, self.prefix :]
        return weights.view(*weights.shape[:2], height, width)

    @property
    def mean_distance(self) -> Tensor:
        """Mean distance (layers,) in cells between a code and the codes it attends to, over all heads and codes."""
        height, width = self.codes.shape
        cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
        weights = self.weights[:, :, self.prefix :, self.prefix :]
        return (weights * torch.cdist(cells, cells)).sum((1, 2, 3)) / weights.sum((1, 2, 3))

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        """Draw the attention of up to six layers, of all layers, and each layer's mean distance, for a cell."""
        weights = self.weights_for(row, column)
        layers, f = len(weights), self.image.shape[2] // self.codes.shape[0]
        figure = new_figure(9.6, 3.9)
        grid = figure.subplots(2, 4, squeeze=False).ravel()
        for ax in grid:
            ax.set_axis_off()
        for layer in range(min(layers, 6)):
            mean = weights[layer].mean(0)
            show(grid[layer], self.image[0].mean(0, keepdim=True).expand(3, -1, -1) * 0.3 + 0.7)
            pixels = mean.repeat_interleave(f, 0).repeat_interleave(f, 1)
            shade = (pixels / pixels.max().clamp(min=1e-9)).sqrt().numpy()
            grid[layer].imshow(shade, cmap="YlOrRd", alpha=shade * 0.95)
            outline(grid[layer], row * f, column * f, f, f, BLUE)
            grid[layer].set_title(f"layer {layer + 1}: {float(mean.sum()):.0%} on codes", fontsize=9)
        distances = grid[-1]
        distances.set_axis_on()
        distances.bar(range(1, layers + 1), self.mean_distance.tolist(), color=ORANGE, width=0.6)
        distances.set_title("mean distance in cells", fontsize=9)
        distances.set_xlabel("layer", fontsize=8)
        distances.set_box_aspect(1)
        show(grid[-2], weights.mean((0, 1)), "mean of all layers", cmap="YlOrRd")
        outline(grid[-2], row, column, 1, 1, BLUE)
        return figure
