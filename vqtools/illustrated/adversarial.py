"""Figures of adversarial training: the discriminator's map, hinge and minimax losses, and the adaptive weight λ.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, equations 5 to 7. Toy trainings on the library's own losses, seconds on a
CPU. Knows nothing about the transformer or CLIP.
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
    """A trained patch discriminator and its mean logits during training."""

    discriminator: nn.Module
    real: list[float]  # mean logit of real images at each step
    fake: list[float]  # mean logit of reconstructions


def train_discriminator(
    images: Tensor, vqgan: VQGAN, steps: int = 60, side: int = 48, batch: int = 8, seed: int = 0
) -> DiscriminatorRun:
    """Train a small discriminator to tell crops of images (n, 3, H, W) from crops of a VQGAN's reconstructions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # layers are initialised from torch's global generator
        torch.manual_seed(seed)
        discriminator = PatchDiscriminator(channels=24, layers=2)
    with torch.no_grad():
        reconstructions = torch.cat([vqgan(part)[0].clamp(-1, 1) for part in torch.split(images, 8)])
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    real_logits, fake_logits = [], []
    with torch.enable_grad():
        for _ in range(steps):
            indices = torch.randint(len(images), (batch,), generator=generator)
            # crops near the centre: the borders of the pictures are mostly blank
            margins = [(images.shape[i] - side) // 2 for i in (2, 3)]
            top, left = (m // 2 + int(torch.randint(m + 1, (1,), generator=generator)) for m in margins)
            crop = (indices, slice(None), slice(top, top + side), slice(left, left + side))
            real, fake = discriminator(torch.cat([images[crop], reconstructions[crop]])).chunk(2)
            loss = hinge_d(real, fake)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            real_logits.append(float(real.detach().mean()))
            fake_logits.append(float(fake.detach().mean()))
    return DiscriminatorRun(discriminator.requires_grad_(False), real_logits, fake_logits)


@svg_figure
@torch.no_grad()
def discriminator_maps(image: Tensor, images: Tensor, vqgan: VQGAN, steps: int = 60) -> Figure:
    """Draw the logits of a discriminator on an image (1, 3, H, W), on its reconstruction, and their difference.

    The discriminator is trained on ``images`` (n, 3, H, W) first. Colours are relative to the mean of both maps,
    because the logits of so short a training have an arbitrary offset.
    """
    run = train_discriminator(images, vqgan, steps)
    reconstruction = vqgan(image)[0].clamp(-1, 1)
    # both in one batch, as in training: batch norm compares them with each other
    logits = run.discriminator(torch.cat([image, reconstruction]))[:, 0]
    real, fake = logits - logits.mean()
    figure = new_figure(10.4, 3.0)
    axes = figure.subplots(1, 5)
    limit = float(torch.stack([real, fake]).abs().max())
    show(axes[0], image, "real picture")
    show(axes[1], real, f"blue: judged real\nmean {float(real.mean()):+.2f}", cmap="RdBu", vmin=-limit, vmax=limit)
    show(axes[2], reconstruction, "reconstruction")
    show(axes[3], fake, f"red: judged fake\nmean {float(fake.mean()):+.2f}", cmap="RdBu", vmin=-limit, vmax=limit)
    limit = float((real - fake).abs().max())
    show(
        axes[4],
        real - fake,
        "difference (blue: where the\nreconstruction is detected)",
        cmap="RdBu",
        vmin=-limit,
        vmax=limit,
    )
    return figure


class GANLossCurves(NamedTuple):
    """Losses of discriminator and generator, and the gradients of the latter, over the logit of one generated patch."""

    logits: Tensor  # (n,)
    losses: dict[str, Tensor]  # each (n,)
    gradient_magnitude: dict[str, Tensor]  # |∂loss / ∂logit| of the generator's losses, each (n,)


def gan_loss_curves(count: int = 161) -> GANLossCurves:
    """Evaluate the hinge and minimax losses of training.losses at ``count`` logits of a generated patch in [-6, 6]."""
    logits = torch.linspace(-6, 6, count, requires_grad=True)
    real = torch.tensor(1e3)  # a real patch with no loss left, so that only the generated one counts
    functions = {
        "D, hinge": lambda x: hinge_d(real, x),
        "D, minimax": lambda x: vanilla_d(real, x),
        "G, minimax: log(1 − D)": minimax_g,
        "G, hinge: −D": adversarial_g,
    }
    losses, gradient_magnitude = {}, {}
    with torch.enable_grad():
        for name, function in functions.items():
            values = torch.stack([function(x) for x in logits])
            losses[name] = values.detach()
            if name.startswith("G"):
                gradient_magnitude[name] = torch.autograd.grad(values.sum(), logits)[0].abs()
    return GANLossCurves(logits.detach(), losses, gradient_magnitude)


@svg_figure
def minimax_and_hinge() -> Figure:
    """Draw both players' losses over the logit of a generated patch, and the size of the generator's gradient."""
    curves = gan_loss_curves()
    figure = new_figure(10.4, 3.3)
    left, middle, right = figure.subplots(1, 3)
    x = curves.logits.tolist()
    for ax, player in ((left, "D"), (middle, "G")):
        losses = {name: values for name, values in curves.losses.items() if name.startswith(player)}
        for name, values in losses.items():
            ax.plot(x, values.tolist(), label=name, color=BLUE if "minimax" in name else ORANGE)
        ax.legend(loc="best")
    for name, values in curves.gradient_magnitude.items():
        right.plot(x, values.tolist(), color=BLUE if "minimax" in name else ORANGE)
    left.set_title("D's loss on a generated patch")
    middle.set_title("G's loss")
    right.set_title("size of G's gradient")
    right.set_ylim(-0.05, 1.2)
    right.annotate(
        "D is certain:\nminimax gives\nG no gradient", (-5.5, 0.01), xytext=(-5.8, 0.42), color=RED, fontsize=9,
        arrowprops={"arrowstyle": "->", "color": RED},
    )  # fmt: skip
    for ax in (left, middle, right):
        ax.set_xlabel("logit: below 0 fake, above 0 real")
        ax.axvline(0, color=GREY, linewidth=0.5)
    return figure


def toy_vqgan_stage(images: Tensor, steps: int = 60, side: int = 32, seed: int = 0) -> VQGANStage:
    """Return a VQGAN training at toy size on six images of (n, 3, H, W), scaled to side² pixels.

    It starts with the pixel loss alone; the discriminator joins after a third of the steps.
    """
    settings = VQGANStageSettings(
        steps=steps,
        learning_rate=1e-3,
        warmup=5,
        perceptual_weight=0.0,
        kmeans_batches=2,
        disc_start=max(1, steps // 3),
        disc_ramp=max(1, steps // 6),
        disc_weight=0.8,
        adaptive_cap=1e4,
        seed=seed,
    )
    config = VQGANConfig(
        channels=16,
        channel_mult=(1, 2),
        res_blocks=1,
        attn_resolutions=(),
        resolution=side,
        z_channels=32,
        embed_dim=8,
        codebook_size=64,
        patch=4,
        mid_attention=False,
        norm_groups=8,
        metric="cosine",
        ema_decay=0.9,
    )
    with torch.random.fork_rng(devices=[]):  # layers are initialised from torch's global generator
        torch.manual_seed(seed)
        vqgan, discriminator = VQGAN(config), PatchDiscriminator(channels=16, layers=2, norm="group")
    # the same batch at every step: the curves then show the adversarial training, not the differences of batches
    batch = F.interpolate(images[:6], size=(side, side), mode="area")

    def no_perceptual_loss(first: Tensor, _second: Tensor) -> Tensor:
        return first.new_zeros(())

    return VQGANStage(settings, vqgan, discriminator, no_perceptual_loss, lambda _step: batch)


def train_toy_stage(images: Tensor, steps: int = 60) -> list[dict[str, float]]:
    """Train :func:`toy_vqgan_stage` and return each step's scalars.

    ``adaptive`` is λ (equation 7); it is absent before the discriminator joins.
    """
    stage = toy_vqgan_stage(images, steps)
    with torch.enable_grad():
        return [stage.step() for _ in range(steps)]


@svg_figure
def adaptive_weight_curve(images: Tensor, steps: int = 60) -> Figure:
    """Draw pixel loss, discriminator logits and λ over a toy training on images (n, 3, H, W)."""
    reports = train_toy_stage(images, steps)
    figure = new_figure(10.4, 3.2)
    axes = figure.subplots(1, 3)

    def series(name: str) -> list[float]:
        return [report.get(name, float("nan")) for report in reports]

    axes[0].plot(series("pixel"), color=BLUE)
    axes[0].set_title("pixel loss |x − x̂|")
    axes[0].set_ylim(bottom=0)
    axes[1].plot(series("real"), color=BLUE, label="real")
    axes[1].plot(series("fake"), color=RED, label="reconstructed")
    axes[1].set_title("mean logits of D")
    axes[1].legend(loc="best")
    axes[2].plot(series("adaptive"), color=PURPLE)
    axes[2].set_title("adaptive weight λ, ramped up")
    axes[2].set_ylim(bottom=0)
    first = next((i for i, report in enumerate(reports) if "adaptive" in report), 0)
    for ax in axes:
        ax.axvline(first, color=GREEN, linewidth=1, linestyle=":")
        ax.set_xlabel("step")
    axes[0].annotate("D joins here", (first, 0), xytext=(4, 6), textcoords="offset points", color=GREEN)
    return figure
