"""Figures of a VQ-VAE's losses: each term turned off in a toy training, and pixel against perceptual distance.

Esser, Rombach, Ommer 2021, arXiv 2012.09841, equation 4. The toy trainings take seconds on a CPU and use the library's
own quantizer. Knows nothing about the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from vqtools.illustrated.style import BLUE, GREY, INK, RED, new_figure, show, svg_figure
from vqtools.models.quantizers import QuantizerOutput, VectorQuantizer

ABLATIONS = ("all terms", "no reconstruction", "no codebook term", "no commitment", "no sg")


class AblationResult(NamedTuple):
    """A toy VQ-VAE after its training."""

    name: str
    initial_codebook: Tensor  # (k, 2)
    codebook: Tensor  # (k, 2)
    latents: Tensor  # (n, 2)
    picture: Tensor  # (3, H, W), reconstructed
    errors: list[float]  # mean squared error at each step
    distance: float  # mean ‖ẑ − z_q‖
    used: int  # codes that at least one patch is assigned to
    decoder_changed: bool


class _ToyVQVAE(nn.Module):
    """An autoencoder of patch vectors (p, n) with k codes of two numbers."""

    def __init__(self, n: int, k: int, beta: float, legacy: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, n))
        self.quantizer = VectorQuantizer(k, 2, beta=beta, legacy=legacy)
        nn.init.normal_(self.quantizer.embedding.weight, std=0.7)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, QuantizerOutput]:
        """Return the reconstructions (p, n), the latents (p, 2), and what the quantizer made of them."""
        latents = self.encoder(vectors)
        quantized = self.quantizer(latents.T.reshape(1, 2, -1, 1))
        return self.decoder(quantized.latents[0, :, :, 0].T), latents, quantized


def train_toy_vqvae(
    image: Tensor, without: str, steps: int = 300, k: int = 16, f: int = 4, seed: int = 0
) -> AblationResult:
    """Train a toy VQ-VAE on the f × f patches of one image (1, 3, H, W), with one term of L_VQ turned off.

    L_VQ = ‖x − x̂‖² + ‖sg[E(x)] − z_q‖² + β ‖E(x) − sg[z_q]‖² with β = 0.25 (equation 4). Without sg the last two
    terms are one, (1 + β) ‖E(x) − z_q‖², whose gradient moves codes and encoder equally. ``without`` is one of
    ABLATIONS.
    """
    if without not in ABLATIONS:
        raise ValueError(f"without={without!r} must be one of {', '.join(ABLATIONS)}")
    vectors = F.unfold(image, f, stride=f)[0].T
    # with legacy, β weighs the codebook term instead of the commitment term: β = 0 turns either of them off
    beta = 0.0 if without in ("no codebook term", "no commitment") else 0.25
    with torch.random.fork_rng(devices=[]):  # layers are initialised from torch's global generator
        torch.manual_seed(seed)
        vqvae = _ToyVQVAE(vectors.shape[1], k, beta, legacy=without == "no codebook term")
    initial_codebook = vqvae.quantizer.codebook.detach().clone()
    initial_decoder = nn.utils.parameters_to_vector(vqvae.decoder.parameters()).detach()
    optimiser = torch.optim.Adam(vqvae.parameters(), lr=6e-3)
    errors = []
    with torch.enable_grad():
        for _ in range(steps):
            reconstruction, latents, quantized = vqvae(vectors)
            error = (reconstruction - vectors).square().mean()
            if without == "no sg":
                codebook_loss = 1.25 * (latents - vqvae.quantizer.embedding(quantized.codes.flatten())).square().mean()
            else:
                codebook_loss = quantized.loss
            loss = codebook_loss if without == "no reconstruction" else codebook_loss + error
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            errors.append(float(error.detach()))
    with torch.no_grad():
        reconstruction, latents, quantized = vqvae(vectors)
    return AblationResult(
        name=without,
        initial_codebook=initial_codebook,
        codebook=vqvae.quantizer.codebook.detach(),
        latents=latents,
        picture=F.fold(reconstruction.T[None], image.shape[2:], f, stride=f)[0],
        errors=errors,
        distance=float((latents - quantized.latents[0, :, :, 0].T).norm(dim=1).mean()),
        used=quantized.codes.unique().numel(),
        decoder_changed=not torch.equal(initial_decoder, nn.utils.parameters_to_vector(vqvae.decoder.parameters())),
    )


@svg_figure
def loss_ablation(image: Tensor, steps: int = 300) -> Figure:
    """Draw the toy VQ-VAE trained on an image (1, 3, H, W) with all terms, and with each of them turned off."""
    figure = new_figure(10.4, 4.9)
    grid = figure.subplots(2, len(ABLATIONS), gridspec_kw={"height_ratios": [1, 1.15]})
    for upper, lower, name in zip(*grid, ABLATIONS, strict=True):
        result = train_toy_vqvae(image, name, steps)
        show(upper, result.picture, f"{name}\nerror {result.errors[-1]:.3f}")
        lower.plot(*result.latents.T.tolist(), ".", color=BLUE, markersize=2.5, alpha=0.4, label="E(x)")
        for before, after in zip(result.initial_codebook.tolist(), result.codebook.tolist(), strict=True):
            lower.plot(*zip(before, after, strict=True), color=GREY, linewidth=0.7)
        lower.plot(*result.initial_codebook.T.tolist(), "x", color=GREY, markersize=5, label="codes before training")
        lower.plot(*result.codebook.T.tolist(), "s", color=RED, markersize=5, label="codes after training")
        usage = f"{result.used} of {len(result.codebook)} codes used"
        lower.set_title(f"mean ‖ẑ − $z_q$‖ {result.distance:.2f}\n{usage}")
        lower.set_xticks([])
        lower.set_yticks([])
    figure.legend(*grid[1][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (1, 3, H, W) with a Gaussian whose standard deviation is ``sigma`` pixels."""
    radius = max(1, int(3 * sigma) + 1)
    line = torch.exp(-torch.arange(-radius, radius + 1).float().square() / (2 * sigma**2))
    kernel = (line / line.sum()).expand(3, 1, -1)
    padded = F.pad(image, [radius] * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=3)
    return F.conv2d(across, kernel[:, :, :, None], groups=3)


def shift_right(image: Tensor, distance: float) -> Tensor:
    """Shift an image (1, 3, H, W) right by a distance in pixels, fractions included; its left border is repeated."""
    whole = int(distance)
    columns = torch.arange(image.shape[3])
    near, far = (image[..., (columns - step).clamp(min=0)] for step in (whole, whole + 1))
    return torch.lerp(near, far, distance - whole)


def distort_equally(image: Tensor, error: float = 0.02) -> dict[str, Tensor]:
    """Distort an image (1, 3, H, W) in four ways to the same mean squared error; bisection finds the strengths."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    black = torch.full_like(image, -1.0)
    distortions: dict[str, tuple[Callable[[float], Tensor], float]] = {  # of a strength, and its upper limit
        "darker": (lambda strength: torch.lerp(image, black, strength), 1.0),
        "noise": (lambda strength: image + strength * noise, 2.0),
        "shifted": (lambda strength: shift_right(image, strength), image.shape[3] / 4),
        "blurred": (lambda strength: blur(image, strength), image.shape[3] / 4),
    }
    distorted = {}
    for name, (distort, limit) in distortions.items():
        low, high = 1e-3, limit
        for _ in range(24):  # the error grows with the strength
            middle = (low + high) / 2
            low, high = (middle, high) if float((distort(middle) - image).square().mean()) < error else (low, middle)
        distorted[name] = distort(high)
    return distorted


@svg_figure
@torch.no_grad()
def pixel_vs_perceptual(image: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor], error: float = 0.02) -> Figure:
    """Draw four distortions of an image (1, 3, H, W) with equal pixel error, and their perceptual distances from it."""
    distorted = distort_equally(image, error)
    figure = new_figure(10.4, 2.9)
    axes = figure.subplots(1, len(distorted) + 1)
    show(axes[0], image, "the picture")
    for ax, (name, changed) in zip(axes[1:], distorted.items(), strict=True):
        pixel_error, distance = float((changed - image).square().mean()), float(perceptual(changed, image))
        show(ax, changed, name)
        caption = f"pixel error {pixel_error:.3f}\nperceptual {distance:.3f}"
        ax.text(0.5, -0.05, caption, transform=ax.transAxes, ha="center", va="top", color=INK, fontsize=10)
    return figure
