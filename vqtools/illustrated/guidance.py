"""Figures of CLIP guidance: its steps one by one, codebook against pixels, and the effect of phrasing.

Crowson et al. 2022, arXiv 2204.08583; Radford et al. 2021, arXiv 2103.00020. The steps are those of painting.Painter.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.prediction import sample_codes
from vqtools.illustrated.style import BLUE, INK, ORANGE, RED, new_figure, show, svg_figure
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.clip_loss import spherical_distance
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.condition import caption_condition
from vqtools.sampling.sampler import cell_noise

PHRASE_TEMPLATES = (
    "{thing}", "{a} {thing}", "a red {thing}", "a blue {thing}", "two {thing}s", "a drawing of {a} {thing}",
    "{a} {thing} on a plate", "a happy {thing}", "no {thing}", "{a} {thing} at night",
)  # fmt: skip
"""Phrasings of one noun; {a} is its indefinite article."""


class GuidanceStep(NamedTuple):
    """The state before one step of CLIP guidance, and the step's loss and update."""

    picture: Tensor  # (3, H, W) in [-1, 1]
    cutouts: Tensor  # (n, 3, side, side) in [0, 1], as CLIP sees them
    distances: Tensor  # (n,) of each cutout from the text; their mean is the loss
    update_norm: Tensor  # (H, W), ≥ 0: norm of the change of the latent under each pixel
    loss: float  # as the painter reports it


def score_next_cutouts(painter: Painter, clip: CLIP) -> tuple[Tensor, Tensor]:
    """Return the cutouts (n, 3, side, side) of the painter's next step, and their distances (n,) from the first prompt.

    The painter's random generator is not advanced.
    """
    s = painter.settings
    generator = torch.Generator()
    generator.set_state(painter.generator.get_state())
    with torch.no_grad():
        picture = painter.decode(painter.z).clamp(0, 1).float()
        height, width = picture.shape[-2:]
        cuts = draw_cutouts(generator, s.cutouts, height, width, clip.size, s.cut_power, s.augment, s.cut_method)
        cutouts = apply_cutouts(picture, cuts)
        text = clip.embed_text([painter.prompt_embeddings().names[0]])
        return cutouts, spherical_distance(clip.embed_image(cutouts), text)


def record_guidance(
    image: Tensor, vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1, cuts: int = 8
) -> list[GuidanceStep]:
    """Guide the latents of an image (1, 3, H, W) towards a prompt with ``cuts`` cutouts, and record each step."""
    height, width = image.shape[2:]
    settings = PaintSettings(
        prompt=prompt,
        size=(width, height),
        iterations=iterations,
        seed=seed,
        cutouts=cuts,
        transformer="none",
        precision="fp32",
    )
    with torch.no_grad():
        start = vqgan.codes_to_latents(vqgan.encode(image))
    painter, steps = Painter(settings, vqgan, [clip], start=start), []
    for _ in range(iterations):
        cutouts, distances = score_next_cutouts(painter, clip)
        picture = painter.decode(painter.z).detach().mul(2).sub(1).clamp(-1, 1)[0]
        before = painter.z.detach().clone()
        loss = painter.step()["loss"]
        change = (painter.z.detach() - before).norm(dim=1, keepdim=True)
        update_norm = F.interpolate(change, size=(height, width), mode="nearest")[0, 0]
        steps.append(GuidanceStep(picture, cutouts.clamp(0, 1), distances, update_norm, loss))
    return steps


class GuidanceFigure:
    """Recorded steps of CLIP guidance; call it with the index of a step to draw the figure."""

    def __init__(self, steps: list[GuidanceStep]) -> None:
        self.steps = steps

    @svg_figure
    def __call__(self, step: int) -> Figure:
        """Draw the picture, the size of its update, the loss, and up to eight cutouts with their distances."""
        recorded = self.steps[step]
        figure = new_figure(10.4, 4.2)
        halves: Any = figure.subfigures(1, 2, width_ratios=[1.15, 1])
        left, right = halves
        upper, lower = left.subplots(2, 2, gridspec_kw={"height_ratios": [2.1, 1]})
        show(upper[0], recorded.picture, f"decoded by VQGAN: step {step + 1}")
        show(upper[1], recorded.update_norm, "change of the latents", cmap="magma")
        for ax in lower:
            ax.remove()
        curve = left.add_subplot(lower[0].get_gridspec()[1, :])
        curve.plot(range(1, len(self.steps) + 1), [item.loss for item in self.steps], color=BLUE)
        curve.plot([step + 1], [recorded.loss], "o", color=RED)
        curve.set_title("loss: mean distance of the cutouts from the text")
        count = min(8, len(recorded.cutouts))
        axes = right.subplots(2, count // 2 or 1, squeeze=False).ravel()
        right.suptitle("distance of each cutout from the text, by CLIP (closest red)", fontsize=10, color=INK)
        closest = int(recorded.distances.argmin())
        for i, ax in enumerate(axes):
            show(ax, recorded.cutouts[i] * 2 - 1)
            ax.set_title(f"{float(recorded.distances[i]):.3f}", color=RED if i == closest else INK, fontsize=9)
        return figure


def guidance_loop(
    image: Tensor, vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1
) -> widgets.VBox:
    """Guide an image (1, 3, H, W) towards a prompt, and return a slider over the steps."""
    steps = record_guidance(image, vqgan, clip, prompt, iterations=iterations, seed=seed)
    return interactive_figure(GuidanceFigure(steps), step=slider("step", 0, len(steps) - 1, len(steps) - 1))


class RendererResult(NamedTuple):
    """Result of CLIP guidance with one renderer, from a random start."""

    name: str
    picture: Tensor  # (3, H, W) in [-1, 1]
    losses: list[float]


def compare_renderers(
    vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1
) -> list[RendererResult]:
    """Run the same guidance on a VQGAN's latents and directly on pixels, at 96 × 96 pixels."""
    renderers: tuple[tuple[str, Literal["vqgan", "pixels"], float], ...] = (
        ("latents of the VQGAN", "vqgan", 0.1),
        ("pixels", "pixels", 0.05),
    )
    results = []
    for name, renderer, learning_rate in renderers:
        settings = PaintSettings(
            prompt=prompt,
            size=(96, 96),
            iterations=iterations,
            seed=seed,
            drawer=renderer,
            learning_rate=learning_rate,
            transformer="none",
            precision="fp32",
            ema=0,
        )
        painter = Painter(settings, vqgan, [clip])
        losses = [painter.step()["loss"] for _ in range(iterations)]
        results.append(RendererResult(name, painter.image(), losses))
    return results


@svg_figure
def codebook_vs_pixels(vqgan: VQGAN, clip: CLIP, prompt: str, *, iterations: int = 24, seed: int = 1) -> Figure:
    """Draw the results of the same guidance on a VQGAN's latents and on pixels, and both losses."""
    figure = new_figure(10.4, 3.4)
    axes = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 1.2]})
    results = compare_renderers(vqgan, clip, prompt, iterations=iterations, seed=seed)
    for ax, result, colour in zip(axes[:2], results, (BLUE, ORANGE), strict=True):
        show(ax, result.picture, f"optimised: {result.name}")
        axes[2].plot(result.losses, label=result.name, color=colour)
    axes[2].set_title("loss: both approach the text")
    axes[2].set_xlabel("step")
    axes[2].legend(loc="best")
    return figure


class PhrasingResult(NamedTuple):
    """Pictures sampled for several phrasings with the same random numbers, and CLIP's similarities."""

    texts: list[str]
    pictures: Tensor  # (n, 3, H, W) in [-1, 1]
    similarities: Tensor  # (n, n) cosine of picture i and text j


@torch.no_grad()
def sample_phrasings(
    texts: list[str], vqgan: VQGAN, gpt: GPT, clip: CLIP, seed: int = 1, grid: int = 0
) -> PhrasingResult:
    """Sample one picture per text with the same random numbers, and compare all pictures and texts with CLIP.

    ``grid`` is the side of the pictures in codes; 0 takes the transformer's window.
    """
    noise, side = cell_noise(seed, 1, gpt.config.num_codes), grid or gpt.config.grid
    condition = caption_condition(gpt, clip, texts)
    codes = sample_codes(gpt, condition, side, side, lambda row, column: noise(row, column).expand(len(texts), -1))
    pictures = vqgan.decode(codes).clamp(-1, 1)
    resized = F.interpolate(pictures.add(1).div(2), size=(clip.size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    return PhrasingResult(texts, pictures, clip.embed_image(resized) @ clip.embed_text(texts).T)


@svg_figure
def prompt_engineering(
    thing: str, vqgan: VQGAN, gpt: GPT, clip: CLIP, seed: int = 1, templates: tuple[str, ...] = PHRASE_TEMPLATES
) -> Figure:
    """Draw the pictures of ten phrasings of one noun with the same seed, and CLIP's similarities to all phrasings."""
    article = "an" if thing[:1].lower() in tuple("aeiou") else "a"
    result = sample_phrasings([text.format(thing=thing, a=article) for text in templates], vqgan, gpt, clip, seed)
    figure = new_figure(10.4, 5.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    left, right = halves
    axes = left.subplots(-(-len(result.texts) // 4), 4).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, text, picture in zip(axes, result.texts, result.pictures, strict=False):
        show(ax, picture, text)
        ax.title.set_fontsize(8.5)
    table = right.subplots()
    plane = table.imshow(result.similarities.numpy(), cmap="viridis")
    table.set_xticks(range(len(result.texts)), result.texts, rotation=60, ha="right")
    table.set_yticks(range(len(result.texts)), result.texts)
    table.set_title("cosine of picture (row) and\ntext (column); largest red")
    best = result.similarities.argmax(1).tolist()
    table.plot(best, range(len(best)), "o", color=RED, markersize=4)
    right.colorbar(plane, ax=table, shrink=0.5)
    return figure
