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

from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.quantizers import VectorQuantizer
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.losses import adversarial_g, hinge_d, minimax_g, vanilla_d
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.stage1 import VQGANStage
from vqtools.ui.illustrated.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, new_figure, show, svg_figure

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


class DiscriminatorRun(NamedTuple):
    """What a patch discriminator has learned."""

    discriminator: nn.Module
    real: list[float]  # mean logit of real pictures at each step
    fake: list[float]


def train_discriminator(
    images: Tensor, vqgan: VQGAN, steps: int = 60, side: int = 48, batch: int = 8, seed: int = 0
) -> DiscriminatorRun:
    """Teach a small patch discriminator to tell pieces of images (n, 3, H, W) from what a VQGAN makes of them."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    discriminator = PatchDiscriminator(channels=24, layers=2)
    torch.set_rng_state(state)
    with torch.no_grad():
        made = torch.cat([vqgan(part)[0].clamp(-1, 1) for part in torch.split(images, 8)])
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    told_real, told_fake = [], []
    with torch.enable_grad():
        for _ in range(steps):
            which = torch.randint(len(images), (batch,), generator=generator)
            # around the middle, where there is something to judge
            rooms = [(images.shape[i] - side) // 2 for i in (2, 3)]
            top, left = (r // 2 + int(torch.randint(r + 1, (1,), generator=generator)) for r in rooms)
            piece = (slice(None), slice(top, top + side), slice(left, left + side))
            both = torch.cat([torch.stack([kind[i][piece] for i in which]) for kind in (images, made)])
            real, fake = discriminator(both).chunk(2)
            loss = hinge_d(real, fake)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            told_real.append(float(real.detach().mean()))
            told_fake.append(float(fake.detach().mean()))
    return DiscriminatorRun(discriminator.requires_grad_(False), told_real, told_fake)


@svg_figure
@torch.no_grad()
def discriminator_maps(image: Tensor, images: Tensor, vqgan: VQGAN, steps: int = 60) -> Figure:
    """The map of a patch discriminator on a picture and on its reconstruction: one logit a patch.

    The colours count from the mean of both maps: so shortly taught, it is not yet sure where nothing lies.
    """
    match = train_discriminator(images, vqgan, steps)
    made = vqgan(image)[0].clamp(-1, 1)
    # read side by side, as it was taught: its batch norm compares the two
    maps = match.discriminator(torch.cat([image, made]))[:, 0]
    maps = maps - maps.mean()
    far = max(float(one.abs().max()) for one in maps)
    figure = new_figure(10.4, 3.0)
    axes = figure.subplots(1, 5)
    names = ("real", "blue: D says real", "reconstructed", "red: D says made")
    for ax, name, one in zip(axes, names, (image, maps[0], made, maps[1]), strict=False):
        how = {"cmap": "RdBu", "vmin": -far, "vmax": far} if one.ndim == 2 else {}
        show(ax, one, name if one.ndim > 2 else f"{name}\nmean {float(one.mean()):+.2f}", **how)
    apart = maps[0] - maps[1]
    far = float(apart.abs().max())
    show(axes[4], apart, "difference (blue): where\nit gives itself away", cmap="RdBu", vmin=-far, vmax=far)
    return figure


class GANLossCurves(NamedTuple):
    """Losses of both players and the gradients that they send, over the logits of one patch."""

    logits: Tensor  # (n,)
    losses: dict[str, Tensor]  # each (n,)
    pull: dict[str, Tensor]  # |d loss / d logit| of the generator's losses, each (n,)


def gan_loss_curves(count: int = 161) -> GANLossCurves:
    """Hinge and minimax, as losses.py has them, for a made patch whose logit goes from sure fake to sure real."""
    logits = torch.linspace(-6, 6, count, requires_grad=True)
    zero = torch.zeros(())
    players = {
        "D, hinge": lambda x: hinge_d(zero + 1e3, x),  # a real patch that it is sure of: only the made one counts
        "D, minimax": lambda x: vanilla_d(zero + 1e3, x),
        "G, minimax: log(1 − D)": minimax_g,
        "G, hinge: −D": adversarial_g,
    }
    losses, pull = {}, {}
    with torch.enable_grad():
        for name, loss in players.items():
            each = torch.stack([loss(x) for x in logits])
            losses[name] = each.detach()
            if name.startswith("G"):
                pull[name] = torch.autograd.grad(each.sum(), logits)[0].abs()
    return GANLossCurves(logits.detach(), losses, pull)


@svg_figure
def minimax_and_hinge() -> Figure:
    """The two players' losses over what D says of a made patch, and how hard each pulls at the generator."""
    found = gan_loss_curves()
    figure = new_figure(10.4, 3.3)
    left, middle, right = figure.subplots(1, 3)
    x = found.logits.tolist()
    for ax, who in ((left, "D"), (middle, "G")):
        for (name, values), colour in zip(
            [pair for pair in found.losses.items() if pair[0].startswith(who)], (BLUE, ORANGE), strict=True
        ):
            ax.plot(x, values.tolist(), label=name, color=colour)
        ax.legend(loc="best")
    for (name, values), colour in zip(found.pull.items(), (BLUE, ORANGE), strict=True):
        right.plot(x, values.tolist(), label=name, color=colour)
    left.set_title("what D loses on a made patch")
    middle.set_title("what G loses")
    right.set_title("how hard G is pulled")
    right.set_ylim(-0.05, 1.2)
    right.annotate(
        "D is sure: minimax\nteaches G nothing", (-5.5, 0.01), xytext=(-5.8, 0.42), color=RED, fontsize=9,
        arrowprops={"arrowstyle": "->", "color": RED},
    )  # fmt: skip
    for ax in (left, middle, right):
        ax.set_xlabel("logit: − made, + real")
        ax.axvline(0, color=GREY, linewidth=0.5)
    return figure


def toy_vqgan_stage(images: Tensor, steps: int = 60, side: int = 32, seed: int = 0) -> VQGANStage:
    """Stage 1 at toy size on six shrunken images (n, 3, H, W): pixel loss first, the discriminator after a third."""
    start = max(1, steps // 3)
    settings = VQGANStageSettings(
        steps=steps, learning_rate=1e-3, warmup=5, perceptual_weight=0.0, kmeans_batches=2, disc_start=start,
        disc_ramp=max(1, steps // 6), disc_weight=0.8, adaptive_cap=1e4, seed=seed,
    )  # fmt: skip
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    config = VQGANConfig(
        channels=16, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), resolution=side, z_channels=32,
        embed_dim=8, codebook_size=64, patch=4, mid_attention=False, norm_groups=8, metric="cosine", ema_decay=0.9,
    )  # fmt: skip
    vqgan, discriminator = VQGAN(config), PatchDiscriminator(channels=16, layers=2, norm="group")
    torch.set_rng_state(state)

    # the same few pieces at every step: what the curves show is then the game, not the pictures
    pieces = F.interpolate(images[:6], size=(side, side), mode="area")
    return VQGANStage(settings, vqgan, discriminator, lambda a, b: a.new_zeros(()), lambda step: pieces)


def train_toy_stage(images: Tensor, steps: int = 60) -> list[dict[str, float]]:
    """What each step of a tiny stage 1 reports; ``adaptive`` is λ, absent while the discriminator does not count."""
    run = toy_vqgan_stage(images, steps)
    with torch.enable_grad():
        return [run.step() for _ in range(steps)]


@svg_figure
def adaptive_weight_curve(images: Tensor, steps: int = 60) -> Figure:
    """λ over a tiny training, and what the two losses do meanwhile."""
    told = train_toy_stage(images, steps)
    figure = new_figure(10.4, 3.2)
    axes = figure.subplots(1, 3)

    def series(name: str) -> list[float]:
        return [report.get(name, float("nan")) for report in told]

    axes[0].plot(series("pixel"), color=BLUE)
    axes[0].set_title("|x − x̂|, the faithful loss")
    axes[0].set_ylim(bottom=0)
    axes[1].plot(series("real"), color=BLUE, label="real")
    axes[1].plot(series("fake"), color=RED, label="made")
    axes[1].set_title("D's mean logits")
    axes[1].legend(loc="best")
    axes[2].plot(series("adaptive"), color=PURPLE)
    axes[2].set_title("adaptive λ, with its ramp")
    axes[2].set_ylim(bottom=0)
    first = next((i for i, report in enumerate(told) if "adaptive" in report), 0)
    for ax in axes:
        ax.axvline(first, color=GREEN, linewidth=1, linestyle=":")
        ax.set_xlabel("step")
    axes[0].annotate("D counts from here", (first, 0), xytext=(4, 6), textcoords="offset points", color=GREEN)
    return figure
