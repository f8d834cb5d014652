"""TODO: what this module is.

Split from vqtools.ui.illustrated.learning.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from vqtools.illustrated.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, new_figure, show, svg_figure
from vqtools.models.discriminator import PatchDiscriminator
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.training.losses import adversarial_g, hinge_d, minimax_g, vanilla_d
from vqtools.training.settings import VQGANStageSettings
from vqtools.training.vqgan_stage import VQGANStage


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
