"""Looking at everything at once: what attention costs, what it finds, and how two stages make it affordable.

Vaswani et al. 2017, arXiv 1706.03762; Chen et al. 2020 (iGPT), ICML. Shapes: n tokens, d dimensions.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.representations import decode_codes
from vqtools.illustrated.style import BLUE, GREY, INK, ORANGE, RED, new_figure, outline, show, svg_figure
from vqtools.models.gpt import GPT
from vqtools.models.quantizers import kmeans, nearest_codes
from vqtools.models.vqgan import VQGAN

IGPT_TOKENS = 224 * 224 * 3  # a picture of 224² pixels, every colour of every pixel a token


def attention_pairs(n: int) -> int:
    """How many weights one head of attention computes for n tokens: every one looks at every one."""
    return n * n


def format_number(number: float, unit: str = "") -> str:
    """1234567 -> "1.2 million"."""
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if abs(number) >= size:
            return f"{number / size:.3g}{name}{unit}"
    return f"{number:,.0f}{unit}"


def self_attention(x: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v with q = k = v = x (n, d), all n² weights written out."""
    return torch.softmax(x @ x.T / math.sqrt(x.shape[1]), 1) @ x


@torch.no_grad()
def time_attention(lengths: tuple[int, ...], d: int = 64, repeats: int = 3) -> list[float]:
    """Seconds that one head takes for sequences of these lengths: the best of some tries."""
    found = []
    for n in lengths:
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(n))
        tries = []
        for _ in range(repeats):
            begun = time.perf_counter()
            self_attention(x)
            tries.append(time.perf_counter() - begun)
        found.append(min(tries))
    return found


def extrapolate_seconds(n: int, lengths: tuple[int, ...], seconds: list[float]) -> float:
    """Seconds for n tokens, from the longest sequence that was timed: its share of the pairs."""
    return seconds[-1] * attention_pairs(n) / attention_pairs(lengths[-1])


@svg_figure
def attention_cost(codes: int = 144, longest: int = 4096) -> Figure:
    """Time of one head of attention over the sequence's length: measured here, and where iGPT's pixels would be."""
    lengths = tuple(n for n in (256, 512, 1024, 2048, 4096) if n <= longest)
    seconds = time_attention(lengths)
    whole = extrapolate_seconds(IGPT_TOKENS, lengths, seconds)
    figure = new_figure(10.4, 3.7)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.5, 1]})
    left.loglog(lengths, seconds, "o-", color=BLUE, label="measured on this machine")
    far = [lengths[-1], IGPT_TOKENS]
    left.loglog(far, [extrapolate_seconds(n, lengths, seconds) for n in far], "--", color=GREY, label="grows with n²")
    left.loglog([IGPT_TOKENS], [whole], "o", color=RED)
    words = f"224² × 3 = {IGPT_TOKENS:,} tokens\n{format_number(attention_pairs(IGPT_TOKENS))} weights\n"
    left.annotate(
        words + f"{4 * attention_pairs(IGPT_TOKENS) / 1e9:.0f} GB in fp32, {whole:.0f} s",
        (IGPT_TOKENS, whole), xytext=(0.98, 0.06), textcoords="axes fraction", ha="right", va="bottom", color=RED, fontsize=9,
        arrowprops={"arrowstyle": "-", "color": RED, "linewidth": 0.7, "shrinkB": 6},
    )  # fmt: skip
    left.set_xlabel("tokens n")
    left.set_ylabel("seconds, one head of one layer")
    left.legend(loc="upper left")
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


class Tokenisation(NamedTuple):
    """A way to write a picture down as a sequence."""

    name: str
    picture: Tensor  # (3, H, W) in [-1, 1]: what is left of it
    tokens: int
    bits: float  # of one token

    @property
    def cost(self) -> int:
        return attention_pairs(self.tokens)


@torch.no_grad()
def compare_tokenisations(image: Tensor, vqgan: VQGAN, side: int = 32, colours: int = 512) -> list[Tokenisation]:
    """The same image (1, 3, H, W) as raw numbers, as iGPT's shrunken pixels, as ViT's patches and as VQGAN's codes.

    iGPT shrinks to 32² and keeps 512 colours found by k-means (Chen et al. 2020); ViT cuts 16² patches and leaves
    their numbers as they are (Dosovitskiy et al. 2021, arXiv 2010.11929).
    """
    small = F.interpolate(image, size=(side, side), mode="area")[0]
    points = small.flatten(1).T
    k = min(colours, len(points))
    palette = kmeans(points, k, torch.Generator().manual_seed(0))
    shrunk = palette[nearest_codes(points, palette)].T.view(3, side, side)
    height, width = image.shape[2:]
    codes = vqgan.encode(image)[0]
    patch = 16
    return [
        Tokenisation("every colour of every pixel", image[0], 3 * height * width, 8),
        Tokenisation(f"iGPT: {side}² pixels, {colours} colours", shrunk, side * side, math.log2(colours)),
        Tokenisation(
            "ViT: patches of 16², unchanged", image[0], (height // patch) * (width // patch), 24.0 * patch * patch
        ),
        Tokenisation("VQGAN: codes", decode_codes(vqgan, codes), codes.numel(), math.log2(vqgan.config.codebook_size)),
    ]


@svg_figure
def sequence_costs(image: Tensor, vqgan: VQGAN) -> Figure:
    """The family side by side: what is left of the picture, how long the sequence is, what attention pays for it."""
    told = compare_tokenisations(image, vqgan)
    figure = new_figure(10.4, 3.9)
    for ax, one in zip(figure.subplots(1, len(told)), told, strict=True):
        show(ax, one.picture, one.name)
        cheap = told[0].cost / one.cost
        words = f"{one.tokens:,} tokens of {one.bits:,.0f} bits\n{one.tokens * one.bits / 8:,.0f} bytes in all\n"
        words += f"attention: {format_number(one.cost)} weights" + (
            f"\n1/{cheap:,.0f} of the first" if cheap > 1 else ""
        )
        ax.text(0.5, -0.06, words, transform=ax.transAxes, ha="center", va="top", fontsize=9, color=INK)
    return figure


@torch.no_grad()
def attention_weights(gpt: GPT, codes: Tensor, prefix: Tensor) -> Tensor:
    """What every token looks at: (layers, heads, p + n, p + n), each row summing to 1, zeros for what comes later.

    codes (1, n), prefix (1, p, w). For minGPT's form of the transformer, as the starter's.
    """
    if gpt.config.rotary:
        raise ValueError("attention of transformers with rotary positions is not drawn here; choose starter")
    found: list[Tensor] = []

    def look(attention: Any, inputs: Any, output: Any) -> None:
        x = inputs[0]
        n, d = x.shape[1], x.shape[2] // attention.heads
        q, k = (f(x).view(n, attention.heads, d).transpose(0, 1) for f in (attention.query, attention.key))
        scores = (q @ k.transpose(1, 2)) / math.sqrt(d)
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        found.append(scores.masked_fill(later, -torch.inf).softmax(-1))

    hooks = [block.attn.register_forward_hook(look) for block in gpt.blocks]  # type: ignore[union-attr]
    try:
        gpt(codes, prefix)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found)


class AttentionFigure:
    """Which codes a code has looked at when it was predicted; call it with a cell, and it draws."""

    def __init__(self, image: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]
        self.image = image
        self.weights = attention_weights(gpt, self.codes.view(1, -1), gpt.no_caption)
        self.prefix = gpt.config.prefix

    def of(self, row: int, column: int) -> Tensor:
        """The weights (layers, heads, h, w) with which the token that predicts a cell looks at the codes before it."""
        height, width = self.codes.shape
        # a code is predicted by the token before it, which sees itself and all that came before
        weights = self.weights[:, :, self.prefix + row * width + column - 1, self.prefix :]
        return weights.view(*weights.shape[:2], height, width)

    @property
    def reach(self) -> Tensor:
        """How many cells away each layer looks on average (layers,), over all heads and codes."""
        height, width = self.codes.shape
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
        far = torch.cdist(places, places)
        seen = self.weights[:, :, self.prefix :, self.prefix :]
        return (seen * far).sum((1, 2, 3)) / seen.sum((1, 2, 3))

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        seen = self.of(row, column)
        layers, f = len(seen), self.image.shape[2] // self.codes.shape[0]
        figure = new_figure(9.6, 3.9)
        grid = figure.subplots(2, 4, squeeze=False).ravel()
        for ax in grid:
            ax.set_axis_off()
        for layer in range(min(layers, 6)):
            mean = seen[layer].mean(0)
            show(grid[layer], self.image[0].mean(0, keepdim=True).expand(3, -1, -1) * 0.3 + 0.7)
            large = mean.repeat_interleave(f, 0).repeat_interleave(f, 1)
            shade = (large / large.max().clamp(min=1e-9)).sqrt().numpy()
            grid[layer].imshow(shade, cmap="YlOrRd", alpha=shade * 0.95)
            outline(grid[layer], row * f, column * f, f, f, BLUE)
            grid[layer].set_title(f"layer {layer + 1}: {float(mean.sum()):.0%} on codes", fontsize=9)
        total = seen.mean((0, 1))
        last = grid[-1]
        last.set_axis_on()
        last.bar(range(1, layers + 1), self.reach.tolist(), color=ORANGE, width=0.6)
        last.set_title("cells away, on average", fontsize=9)
        last.set_xlabel("layer", fontsize=8)
        last.set_box_aspect(1)
        show(grid[-2], total, "all layers", cmap="YlOrRd")
        outline(grid[-2], row, column, 1, 1, BLUE)
        return figure
