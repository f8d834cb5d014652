"""VQGAN makes, CLIP judges: the loop taken apart, why the codebook matters, and what phrasing changes.

Crowson et al. 2022, arXiv 2204.08583; Radford et al. 2021, arXiv 2103.00020.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.style import BLUE, INK, ORANGE, RED, new_figure, show, svg_figure
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.painting.clip_loss import spherical_distance
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.condition import caption_condition
from vqtools.sampling.sampler import Sampler, cell_noise

PHRASE_TEMPLATES = (
    "{thing}", "{a} {thing}", "a red {thing}", "a blue {thing}", "two {thing}s", "a drawing of {a} {thing}",
    "{a} {thing} on a plate", "a happy {thing}", "no {thing}", "{a} {thing} at night",
)  # fmt: skip


class GuidanceStep(NamedTuple):
    """One turn of the loop, before its step is made."""

    picture: Tensor  # (3, H, W) in [-1, 1]
    views: Tensor  # (n, 3, side, side) in [0, 1]: what CLIP is shown
    distances: Tensor  # (n,) of each view from the text; their mean is the loss
    pull: Tensor  # (H, W) at least 0: how strongly each pixel's place is told to change
    loss: float  # as the painter reports it


def score_next_cutouts(painter: Painter, clip: CLIP) -> tuple[Tensor, Tensor]:
    """The views that the painter's next step will show the CLIP, and each one's distance from the first prompt."""
    s = painter.settings
    drawn_next = torch.Generator()
    drawn_next.set_state(painter.generator.get_state())  # the same cuts, without taking them away
    with torch.no_grad():
        picture = painter.decode(painter.z).clamp(0, 1).float()
        height, width = picture.shape[-2:]
        cuts = draw_cutouts(
            drawn_next, s.cutouts, height, width, clip.size, s.cut_power, s.augment, s.cut_method
        )  # fmt: skip
        views = apply_cutouts(picture, cuts)
        distances = spherical_distance(clip.embed_image(views), clip.embed_text([painter.prompt_embeddings().names[0]]))
    return views, distances


def record_guidance(
    image: Tensor, vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1, cuts: int = 8
) -> list[GuidanceStep]:
    """Paint over an image (1, 3, H, W) and keep every turn: the picture, CLIP's views and its opinion of each."""
    height, width = image.shape[2:]
    settings = PaintSettings(
        prompt=prompt, size=(width, height), iterations=iterations, seed=seed, cutouts=cuts, transformer="none",
        precision="fp32",
    )  # fmt: skip
    with torch.no_grad():
        start = vqgan.codes_to_latents(vqgan.encode(image))
    painter, moments = Painter(settings, vqgan, [clip], start=start), []
    for _ in range(iterations):
        views, distances = score_next_cutouts(painter, clip)
        picture = painter.decode(painter.z).detach().mul(2).sub(1).clamp(-1, 1)[0]
        before = painter.z.detach().clone()
        told = painter.step()
        moved = (painter.z.detach() - before).norm(dim=1, keepdim=True)
        pull = F.interpolate(moved, size=(height, width), mode="nearest")[0, 0]
        moments.append(GuidanceStep(picture, views.clamp(0, 1), distances, pull, told["loss"]))
    return moments


class GuidanceFigure:
    """The turns of the loop; call it with a turn, and it draws."""

    def __init__(self, moments: list[GuidanceStep]) -> None:
        self.moments = moments

    @svg_figure
    def __call__(self, turn: int) -> Figure:
        moment, count = self.moments[turn], min(8, len(self.moments[turn].views))
        figure = new_figure(10.4, 4.2)
        halves: Any = figure.subfigures(1, 2, width_ratios=[1.15, 1])
        left, right = halves
        one, two = left.subplots(2, 2, gridspec_kw={"height_ratios": [2.1, 1]})
        show(one[0], moment.picture, f"VQGAN makes: turn {turn + 1}")
        show(one[1], moment.pull, "where the codes are moved", cmap="magma")
        for ax in two:
            ax.remove()
        curve = left.add_subplot(two[0].get_gridspec()[1, :])
        curve.plot(range(1, len(self.moments) + 1), [m.loss for m in self.moments], color=BLUE)
        curve.plot([turn + 1], [moment.loss], "o", color=RED)
        curve.set_title("mean distance between views and text: what is made smaller")
        axes = right.subplots(2, count // 2 or 1, squeeze=False).ravel()
        best = int(moment.distances.argmin())
        right.suptitle("CLIP judges: distance of each view (the best one red)", fontsize=10, color=INK)
        for i, ax in enumerate(axes):
            show(ax, moment.views[i] * 2 - 1)
            colour = RED if i == best else INK
            ax.set_title(f"{float(moment.distances[i]):.3f}", color=colour, fontsize=9)
        return figure


def guidance_loop(
    image: Tensor, vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1
) -> widgets.VBox:
    """The loop, turn by turn, from an image on, with CLIP's opinion of each cut."""
    moments = record_guidance(image, vqgan, clip, prompt, iterations=iterations, seed=seed)
    return interactive_figure(GuidanceFigure(moments), turn=slider("turn", 0, len(moments) - 1, len(moments) - 1))


class RendererResult(NamedTuple):
    """What guidance made of random codes or of bare pixels."""

    name: str
    picture: Tensor  # (3, H, W) in [-1, 1]
    losses: list[float]


def compare_renderers(
    vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1
) -> list[RendererResult]:
    """The same guidance on the VQGAN's codes and on pixels."""
    made = []
    ways: tuple[tuple[str, Literal["vqgan", "pixels"], float], ...] = (
        ("through the codebook", "vqgan", 0.1),
        ("on bare pixels", "pixels", 0.05),
    )
    for name, drawer, rate in ways:
        settings = PaintSettings(
            prompt=prompt, size=(96, 96), iterations=iterations, seed=seed, drawer=drawer, learning_rate=rate,
            transformer="none", precision="fp32", ema=0,
        )  # fmt: skip
        painter = Painter(settings, vqgan, [clip])
        losses = [painter.step()["loss"] for _ in range(iterations)]
        made.append(RendererResult(name, painter.image(), losses))
    return made


@svg_figure
def codebook_vs_pixels(vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1) -> Figure:
    """The same CLIP, the same words, nearly the same score; only one of them can be looked at."""
    figure = new_figure(10.4, 3.4)
    axes = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 1.2]})
    made = compare_renderers(vqgan, clip, prompt, iterations=iterations, seed=seed)
    for ax, one, colour in zip(axes[:2], made, (BLUE, ORANGE), strict=True):
        show(ax, one.picture, one.name)
        axes[2].plot(one.losses, label=one.name, color=colour)
    axes[2].set_title("distance from the text: CLIP likes both")
    axes[2].set_xlabel("turn")
    axes[2].legend(loc="best")
    return figure


class PhrasingResult(NamedTuple):
    """Pictures of several phrasings drawn with the same random numbers."""

    texts: list[str]
    pictures: Tensor  # (n, 3, H, W) in [-1, 1]
    fits: Tensor  # (n, n) cosine of picture i and text j


@torch.no_grad()
def sample_phrasings(
    texts: list[str], vqgan: VQGAN, gpt: GPT, clip: CLIP, seed: int = 1, grid: int = 0
) -> PhrasingResult:
    """One seed, several phrasings: what the transformer draws for each, and how CLIP finds that they fit."""
    one, defaults = cell_noise(seed, 1, gpt.config.num_codes), PaintSettings()
    side = grid or gpt.config.grid
    sampler = Sampler(
        pack_linear_layers(gpt),
        side,
        side,
        caption_condition(gpt, clip, texts),
        noise=lambda row, column: one(row, column).expand(len(texts), -1),
        guidance=defaults.guidance,
        top_p=defaults.top_p,
    )
    while sampler.position < sampler.total:
        sampler.step()
    pictures = vqgan.decode(sampler.codes).clamp(-1, 1)
    views = F.interpolate(pictures.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    return PhrasingResult(texts, pictures, clip.embed_image(views) @ clip.embed_text(texts).T)


@svg_figure
def prompt_engineering(
    thing: str, vqgan: VQGAN, gpt: GPT, clip: CLIP, seed: int = 1, forms: tuple[str, ...] = PHRASE_TEMPLATES
) -> Figure:
    """The same seed under ten phrasings, and which text CLIP takes each picture for."""
    article = "an" if thing[:1].lower() in tuple("aeiou") else "a"
    found = sample_phrasings([form.format(thing=thing, a=article) for form in forms], vqgan, gpt, clip, seed)
    figure = new_figure(10.4, 5.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    left, right = halves
    axes = left.subplots(-(-len(found.texts) // 4), 4).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, text, picture in zip(axes, found.texts, found.pictures, strict=False):
        show(ax, picture, text)
        ax.title.set_fontsize(8.5)
    ax = right.subplots()
    plane = ax.imshow(found.fits.numpy(), cmap="viridis")
    ax.set_xticks(range(len(found.texts)), found.texts, rotation=60, ha="right")
    ax.set_yticks(range(len(found.texts)), found.texts)
    ax.set_title("cosine of picture (row)\nand text (column)")
    best = found.fits.argmax(1).tolist()
    ax.plot(best, range(len(best)), "o", color=RED, markersize=4)
    right.colorbar(plane, ax=ax, shrink=0.5)
    return figure
