"""Learning: every term of the loss by turning it off, two kinds of distance, and the game against a discriminator.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, equations 3 to 7. Toys: seconds on a CPU, the library's own losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from vqtools.illustrated.style import BLUE, GREY, INK, RED, new_figure, show, svg_figure
from vqtools.models.quantizers import VectorQuantizer

ABLATIONS = ("all terms", "no reconstruction", "no codebook term", "no commitment", "no sg")


class AblationResult(NamedTuple):
    """A tiny VQ-VAE after its training."""

    name: str
    start: Tensor  # (k, 2) codebook before
    codebook: Tensor  # (k, 2) and after
    latents: Tensor  # (n, 2)
    picture: Tensor  # (3, H, W) rebuilt
    errors: list[float]  # mean squared error at each step
    distance: float  # mean ‖ẑ − z_q‖
    used: int  # how many of the codes stand for a patch
    decoder_moved: bool


def train_toy_vqvae(
    image: Tensor, without: str, steps: int = 300, k: int = 16, f: int = 4, seed: int = 0
) -> AblationResult:
    """Train 192 → 2 → 192 numbers a patch on one image (1, 3, H, W), with one term of L_VQ turned off.

    L_VQ = ‖x − x̂‖² + ‖sg[E(x)] − z_q‖² + β ‖E(x) − sg[z_q]‖², β 0.25. Without sg the last two are one,
    (1 + β) ‖E(x) − z_q‖², which pulls codes and encoder towards each other equally hard.
    """
    if without not in ABLATIONS:
        raise ValueError(f"{without!r}: must be one of {', '.join(ABLATIONS)}")
    torch_state = torch.get_rng_state()  # layers start from torch's own generator: lent, and given back
    torch.manual_seed(seed)
    n = 3 * f * f
    encoder = nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 2))
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, n))
    # with legacy, β weighs the codebook term: so each term can be weighed by 0 with the library's own quantiser
    quantizer = VectorQuantizer(
        k, 2, beta=0.0 if without in ABLATIONS[2:4] else 0.25, legacy=without == "no codebook term"
    )
    nn.init.normal_(quantizer.embedding.weight, std=0.7)
    torch.set_rng_state(torch_state)
    vectors = F.unfold(image, f, stride=f)[0].T
    start, first = quantizer.codebook.detach().clone(), nn.utils.parameters_to_vector(decoder.parameters()).detach()
    modules = nn.ModuleList([encoder, decoder, quantizer])
    optimiser = torch.optim.Adam(modules.parameters(), lr=6e-3)
    errors = []
    with torch.enable_grad():
        for _ in range(steps):
            z = encoder(vectors)
            out = quantizer(z.T.reshape(1, 2, -1, 1))
            if without == "no sg":
                pulled = 1.25 * (z - quantizer.embedding(out.codes.flatten())).square().mean()
            else:
                pulled = out.loss
            rebuilt = decoder(out.latents[0, :, :, 0].T)
            error = (rebuilt - vectors).square().mean()
            loss = pulled + (0 if without == "no reconstruction" else error)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            errors.append(float(error.detach()))
    with torch.no_grad():
        latents = encoder(vectors)
        out = quantizer(latents.T.reshape(1, 2, -1, 1))
        z_q = out.latents[0, :, :, 0].T
        picture = F.fold(decoder(z_q).T[None], image.shape[2:], f, stride=f)[0]
    far = float((latents - z_q).norm(dim=1).mean())
    moved = not torch.equal(first, nn.utils.parameters_to_vector(decoder.parameters()))
    used = out.codes.unique().numel()
    return AblationResult(without, start, quantizer.codebook.detach(), latents, picture, errors, far, used, moved)


@svg_figure
def loss_ablation(image: Tensor, steps: int = 300) -> Figure:
    """The same toy trained five times: with every term of L_VQ, and with each of them, and sg, turned off."""
    figure = new_figure(10.4, 4.9)
    grid = figure.subplots(2, len(ABLATIONS), gridspec_kw={"height_ratios": [1, 1.15]})
    for upper, lower, name in zip(*grid, ABLATIONS, strict=True):
        lesson = train_toy_vqvae(image, name, steps)
        show(upper, lesson.picture, f"{name}\nerror {lesson.errors[-1]:.3f}")
        lower.plot(*lesson.latents.T.tolist(), ".", color=BLUE, markersize=2.5, alpha=0.4, label="E(x)")
        for before, after in zip(lesson.start.tolist(), lesson.codebook.tolist(), strict=True):
            lower.plot(*zip(before, after, strict=True), color=GREY, linewidth=0.7)
        lower.plot(*lesson.start.T.tolist(), "x", color=GREY, markersize=5, label="codes, before")
        lower.plot(*lesson.codebook.T.tolist(), "s", color=RED, markersize=5, label="codes, after")
        words = f"{lesson.used} of {len(lesson.codebook)} codes used"
        lower.set_title(f"distance to the code {lesson.distance:.2f}\n{words}")
        lower.set_xticks([])
        lower.set_yticks([])
    figure.legend(*grid[1][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


# Two kinds of distance.


def blur(image: Tensor, sigma: float) -> Tensor:
    """An image softened by a Gaussian of so many pixels."""
    radius = max(1, int(3 * sigma) + 1)
    line = torch.exp(-torch.arange(-radius, radius + 1).float().square() / (2 * sigma**2))
    kernel = (line / line.sum()).expand(3, 1, -1)
    padded = F.pad(image, [radius] * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=3)
    return F.conv2d(across, kernel[:, :, :, None], groups=3)


def shift_right(image: Tensor, distance: float) -> Tensor:
    """An image moved to the right by so many pixels, its border repeated."""
    whole = int(distance)
    columns = torch.arange(image.shape[3])
    near, far = (image[..., (columns - step).clamp(min=0)] for step in (whole, whole + 1))
    return torch.lerp(near, far, distance - whole)


def distort_equally(image: Tensor, error: float = 0.02) -> dict[str, Tensor]:
    """An image (1, 3, H, W) spoiled in four ways, each with the same mean squared error."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    dark = torch.full_like(image, -1.0)
    ways: dict[str, tuple[Callable[[float], Tensor], float]] = {
        "darker": (lambda a: torch.lerp(image, dark, a), 1.0),
        "noise": (lambda a: image + a * noise, 2.0),
        "moved aside": (lambda a: shift_right(image, a), image.shape[3] / 4),
        "blurred": (lambda a: blur(image, a), image.shape[3] / 4),
    }
    found = {}
    for name, (change, most) in ways.items():
        low, high = 1e-3, most
        for _ in range(24):  # each spoils the more, the larger its amount
            middle = (low + high) / 2
            low, high = (middle, high) if float((change(middle) - image).square().mean()) < error else (low, middle)
        found[name] = change(high)
    return found


@svg_figure
@torch.no_grad()
def pixel_vs_perceptual(image: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor], error: float = 0.02) -> Figure:
    """Pictures that are equally wrong in pixels, and how wrong they look to a network."""
    found = distort_equally(image, error)
    figure = new_figure(10.4, 2.9)
    axes = figure.subplots(1, len(found) + 1)
    show(axes[0], image, "the picture")
    for ax, (name, changed) in zip(axes[1:], found.items(), strict=True):
        wrong, seen = float((changed - image).square().mean()), float(perceptual(changed, image))
        show(ax, changed, name)
        words = f"pixels {wrong:.3f}\nperceptual {seen:.3f}"
        ax.text(0.5, -0.05, words, transform=ax.transAxes, ha="center", va="top", color=INK, fontsize=10)
    return figure


# The game.
