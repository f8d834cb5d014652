"""Which code comes next: its distribution, the likelihood of a picture, its surprises, and the window that walks.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.2: p(s) = Π p(s_i | s_<i).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.attention import AttentionFigure
from vqtools.illustrated.cell_picker import pick_cell
from vqtools.illustrated.codebook import decode_each_code
from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.representations import decode_codes
from vqtools.illustrated.style import BLUE, GREEN, GREY, INK, ORANGE, RED, new_figure, outline, show, svg_figure
from vqtools.media.image import to_picture
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.condition import Condition
from vqtools.sampling.likelihood import Scorer
from vqtools.sampling.window import Window


class NextCodeFigure:
    """What the transformer expects in each cell of a picture; call it with a cell, and it draws."""

    def __init__(self, image: Tensor, vqgan: VQGAN, gpt: GPT) -> None:
        self.vqgan = vqgan
        with torch.no_grad():
            self.codes = vqgan.encode(image)[0]
            logits = gpt(self.codes.view(1, -1), gpt.no_caption)[0]
        prefix = gpt.config.prefix_length
        height, width = self.codes.shape
        # the logits at a token are about the one after it
        cells = logits[prefix - 1 : prefix - 1 + height * width, : gpt.config.num_codes]
        self.probabilities = cells.float().softmax(-1).view(height, width, -1)  # (h, w, v)

    @property
    def nats(self) -> Tensor:
        """-ln p(s_i | s_<i) of each code (h, w)."""
        own: Tensor = self.probabilities.gather(2, self.codes[..., None])[..., 0]
        return -own.log()

    def top_codes(self, row: int, column: int, count: int = 12) -> tuple[Tensor, Tensor]:
        """The likeliest codes (count,) of a cell and their probabilities."""
        found = self.probabilities[row, column].topk(count)
        return found.indices, found.values

    @svg_figure
    def __call__(self, row: int, column: int) -> Figure:
        count, f = 12, self.vqgan.f
        likely, share = self.top_codes(row, column, count)
        here, p = int(self.codes[row, column]), self.probabilities[row, column]
        rank = int((p > p[here]).sum()) + 1
        entropy = float(-(p * p.clamp(min=1e-30).log2()).sum())
        figure = new_figure(10.4, 3.5)
        outer = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.9, 1.1]})
        seen = decode_codes(self.vqgan, self.codes).clone()
        seen[:, row * f : (row + 1) * f, column * f :] = 0.85  # what is not said yet is not known
        seen[:, (row + 1) * f :] = 0.85
        show(outer[0], seen, "what the transformer knows")
        outline(outer[0], row * f, column * f, f, f)
        height = float(share[0])
        bars = outer[1].bar(range(count), share.tolist(), color=[RED if c == here else BLUE for c in likely.tolist()])
        outer[1].bar_label(bars, [f"{value:.0%}" for value in share.tolist()], fontsize=7.5, padding=1, color=INK)
        outer[1].set_ylim(-0.22 * height, 1.12 * height)
        outer[1].set_yticks([])
        outer[1].set_xticks(range(count), [str(c) for c in likely.tolist()], rotation=60)
        pictures = decode_each_code(self.vqgan, likely)
        for x, tile in enumerate(pictures):
            inset = outer[1].inset_axes((x - 0.4, -0.2 * height, 0.8, 0.17 * height), transform=outer[1].transData)
            show(inset, tile, aspect="auto")
        outer[1].spines[["left", "bottom"]].set_visible(False)
        marked = ", the true one red" if rank <= count else ""
        outer[1].set_title(f"p(next code | all before): the twelve likeliest{marked}")
        ordered = p.sort(descending=True).values.cumsum(0)
        outer[2].plot(range(1, len(ordered) + 1), ordered.tolist(), color=GREY)
        outer[2].plot([rank], [float(ordered[rank - 1])], "o", color=RED)
        outer[2].set_xscale("log")
        outer[2].set_ylim(0, 1.03)
        outer[2].set_xlabel("codes, likeliest first")
        words = f"true code {here}: rank {rank}, p = {float(p[here]):.2g}\n"
        words += f"entropy {entropy:.1f} of {math.log2(len(p)):.0f} bits"
        outer[2].set_title(words)
        return figure


def next_code(image: Tensor, vqgan: VQGAN, gpt: GPT) -> widgets.VBox:
    """Click a cell: which codes the transformer expects there, knowing only those before it."""
    told = NextCodeFigure(image, vqgan, gpt)
    height, width = told.codes.shape
    return pick_cell(told, to_picture(image), height, width, (height // 2, width // 2))


def attention_maps(image: Tensor, vqgan: VQGAN, gpt: GPT) -> widgets.VBox:
    """Click a cell: which codes before it the transformer looks at to predict it."""
    told = AttentionFigure(image, vqgan, gpt)
    height, width = told.codes.shape
    return pick_cell(told, to_picture(image), height, width, (height // 2 + 1, width // 2 + 1))


@torch.no_grad()
def code_nll(codes: Tensor, gpt: GPT) -> Tensor:
    """-ln p(s_i | s_<i) of each code (h, w), without a caption, through the walking window."""
    scorer = Scorer(gpt, codes[None], Condition(gpt.no_caption))
    while scorer.position < scorer.total:
        scorer.step()
    return scorer.nats[0]


class ScoredCodes(NamedTuple):
    """A grid of codes and what the transformer thinks of it."""

    name: str
    codes: Tensor  # (h, w)
    nats: Tensor  # (h, w)

    @property
    def bits(self) -> float:
        """Bits a code."""
        return float(self.nats.mean()) / math.log(2)


def score_variants(image: Tensor, vqgan: VQGAN, gpt: GPT, seed: int = 0) -> list[ScoredCodes]:
    """A picture's codes as they are, upside down, and the same codes in any order."""
    with torch.no_grad():
        codes = vqgan.encode(image)[0]
        turned = vqgan.encode(image.flip(2))[0]
    order = torch.randperm(codes.numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = codes.flatten()[order].view(codes.shape)
    named = (("as it is", codes), ("upside down", turned), ("the same codes, shuffled", shuffled))
    return [ScoredCodes(name, grid, code_nll(grid, gpt)) for name, grid in named]


@svg_figure
def nll_maps(image: Tensor, vqgan: VQGAN, gpt: GPT) -> Figure:
    """The surprise of every code, and how ln p(s) adds up over the picture."""
    found = score_variants(image, vqgan, gpt)
    most = max(float(one.nats.max()) for one in found)
    figure = new_figure(10.4, 4.6)
    grid = figure.subplots(2, 4, gridspec_kw={"width_ratios": [1, 1, 1, 1.5]})
    for upper, lower, one in zip(grid[0], grid[1], found, strict=False):
        show(upper, decode_codes(vqgan, one.codes), one.name)
        plane = lower.imshow(one.nats.numpy(), cmap="inferno", vmin=0, vmax=most)
        lower.set_axis_off()
        lower.set_title(f"{one.bits:.1f} bits a code")
    figure.colorbar(plane, ax=grid[1][:3], label="nats", location="bottom", shrink=0.4, aspect=30)
    for ax in grid[:, 3]:
        ax.remove()
    side = figure.add_subplot(grid[0][3].get_gridspec()[:, 3])
    for one, colour in zip(found, (GREEN, ORANGE, RED), strict=True):
        side.plot((-one.nats.flatten().cumsum(0)).tolist(), label=one.name, color=colour)
    side.set_title(r"$\ln p(s) = \sum_i \ln p(s_i \mid s_{<i})$")
    side.set_xlabel("codes read")
    side.legend(loc="lower left")
    return figure


class SlidingWindowFigure:
    """A window walking over a grid; call it with a step, and it draws."""

    def __init__(self, height: int, width: int, side: int, picture: Tensor | None = None) -> None:
        self.window = Window(height, width, side, together=False)
        self.cells = self.window.cells()
        self.picture = picture

    def at(self, step: int) -> tuple[tuple[int, int], tuple[int, int], int]:
        """The cell drawn at a step, its window's origin, and how many codes it goes by."""
        cell = self.cells[step]
        return cell, self.window.origin(*cell), self.window.position(*cell)

    @svg_figure
    def __call__(self, step: int) -> Figure:
        (row, column), (top, left), known = self.at(step)
        w, side = self.window, self.window.side
        state = torch.ones(w.height, w.width, 3)
        for r, c in self.cells[:step]:
            state[r, c] = torch.tensor([0.78, 0.78, 0.78])
        for r, c in self.cells[:step]:
            if top <= r < top + side and left <= c < left + side:
                state[r, c] = torch.tensor([0.45, 0.66, 0.86])
        state[row, column] = torch.tensor([0.82, 0.29, 0.36])
        columns = 2 if self.picture is not None else 1
        figure = new_figure(5.2 * columns, 5.0 * w.height / w.width + 0.6)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        show(axes[0], state.numpy(), f"step {step + 1} of {len(self.cells)}: goes by {known} codes of the window")
        outline(axes[0], top, left, side, side, RED)
        if self.picture is not None:
            f = self.picture.shape[1] // w.height
            seen = self.picture.clone()
            seen[:, row * f : (row + 1) * f, column * f :] = 0.85
            seen[:, (row + 1) * f :] = 0.85
            show(axes[1], seen, "the picture so far")
            outline(axes[1], top * f, left * f, side * f, side * f, RED)
        return figure


def sliding_window(
    gpt: GPT, vqgan: VQGAN, prompt: str, seed: int, *, height: int = 12, width: int = 24, clip: Any = None
) -> widgets.VBox:
    """Draw a wide picture with the transformer, then walk through its making with a slider."""
    from vqtools.models.gpt import pack_linear_layers
    from vqtools.painting.settings import PaintSettings
    from vqtools.sampling.condition import caption_condition, empty_condition
    from vqtools.sampling.sampler import Sampler, cell_noise

    if clip is not None and gpt.config.text_dim:
        condition = caption_condition(gpt, clip, [prompt])
    else:
        condition = empty_condition(gpt, gpt.tok_emb.weight.device)
    defaults = PaintSettings()
    sampler = Sampler(
        pack_linear_layers(gpt), height, width, condition, noise=cell_noise(seed, 1, gpt.config.num_codes),
        guidance=defaults.guidance, top_p=defaults.top_p,
    )  # fmt: skip
    while sampler.position < sampler.total:
        sampler.step()
    walk = SlidingWindowFigure(height, width, gpt.config.grid, decode_codes(vqgan, sampler.codes[0]))
    start = len(walk.cells) * 5 // 8
    return interactive_figure(walk, step=slider("step", 0, len(walk.cells) - 1, start))
