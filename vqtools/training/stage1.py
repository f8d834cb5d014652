"""Stage 1: train a VQGAN on pictures, a step at a time.

Knows networks and batches, both handed in; nothing about folders, prompts or where weights lie.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from vqtools.models.quantizers import perplexity
from vqtools.models.vqgan import VQGAN
from vqtools.settings import Settings, option
from vqtools.training.losses import adaptive_weight, adversarial_g, hinge_d


class Stage1Settings(Settings):
    """What a VQGAN's training may choose."""

    steps: int = option(30_000, help="training steps", ge=1, quick=4)
    learning_rate: float = option(6e-4, help="Adam's step size at its highest", gt=0)
    warmup: int = option(300, help="steps over which the rates rise", unit="steps", ge=0)
    squared_weight: float = option(0.0, help="weight of the squared pixel error beside the absolute one", ge=0)
    perceptual_weight: float = option(0.5, help="weight of the perceptual distance", ge=0)
    perceptual_pictures: int = option(8, help="pictures of a batch that the perceptual distance looks at", ge=1)
    disc_start: int = option(15_000, help="step from which the discriminator counts", ge=0)
    disc_weight: float = option(0.3, help="weight of the adversarial term, before the adaptive one", ge=0)
    disc_ramp: int = option(2_000, help="steps over which the adversarial term rises", unit="steps", ge=1)
    adaptive_cap: float = option(10.0, help="highest adaptive weight of the adversarial term", gt=0)
    revive_below: float = option(0.3, help="average uses a step below which a code restarts at a latent", ge=0)
    kmeans_batches: int = option(8, help="batches whose latents start the codebook", ge=1)
    ema: float = option(0.998, help="decay of the averaged weights that are kept", ge=0, lt=1)
    decoder_only: bool = option(False, help="train the decoder alone: every picture keeps its codes")
    seed: int = option(0, help="seed of every draw", ge=0)


class Stage1:
    """A VQGAN's training as a job: ``step()`` is one batch, ``state_dict()`` is complete.

    batch: step -> images (b, 3, H, W) in [-1, 1]; it must depend on the step alone, so that a resumed run sees
    the pictures it would have seen. perceptual: two images -> scalar distance.
    """

    def __init__(
        self,
        settings: Stage1Settings,
        vqgan: VQGAN,
        discriminator: nn.Module,
        perceptual: Callable[[Tensor, Tensor], Tensor],
        batch: Callable[[int], Tensor],
        *,
        precision: torch.dtype | None = None,
    ) -> None:
        self.settings, self.batch, self.perceptual, self.precision = settings, batch, perceptual, precision
        self.vqgan = vqgan.to(memory_format=torch.channels_last)
        self.averaged = deepcopy(vqgan).requires_grad_(False).eval()
        self.discriminator = discriminator.to(memory_format=torch.channels_last)
        if settings.decoder_only:
            for part in (vqgan.encoder, vqgan.quant_conv, vqgan.quantize):
                part.requires_grad_(False)
        self.trained = [p for p in vqgan.parameters() if p.requires_grad]
        self.opt_g = torch.optim.Adam(self.trained, lr=settings.learning_rate, betas=(0.5, 0.9))
        self.opt_d = torch.optim.Adam(discriminator.parameters(), lr=settings.learning_rate / 2, betas=(0.5, 0.9))
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.position = 0
        self.total = settings.steps

    def rate(self) -> float:
        """The step size's factor in (0, 1]: warm-up, then a linear fall to a tenth over the last quarter."""
        left = (self.total - self.position) / (0.25 * self.total)
        return min(1.0, (self.position + 1) / max(self.settings.warmup, 1), max(left, 0.1))

    def step(self) -> dict[str, float]:
        """One batch: generator, then discriminator on the detached pictures. Reports losses and codebook use."""
        s = self.settings
        if self.position == 0 and not s.decoder_only:
            self.start_codebook()
        for optimiser, lr in ((self.opt_g, s.learning_rate), (self.opt_d, s.learning_rate / 2)):
            for group in optimiser.param_groups:
                group["lr"] = lr * self.rate()
        images = self.batch(self.position)
        gan = self.position >= s.disc_start
        reconstruction, latents, codes, report = self.step_generator(images, gan)
        if s.disc_weight and self.position >= s.disc_start - s.disc_ramp:  # it warms up before it counts
            report |= self.step_discriminator(images, reconstruction)
        if self.vqgan.config.ema_decay is not None and not s.decoder_only:
            report["revived"] = self.vqgan.quantize.update(latents, codes, self.generator, s.revive_below)
        with torch.no_grad():
            for mean, now in zip(self.averaged.state_dict().values(), self.vqgan.state_dict().values(), strict=True):
                mean.lerp_(now, 1 - min(s.ema, (self.position + 1) / (self.position + 10)))
        self.position += 1
        return report

    def step_generator(self, images: Tensor, gan: bool) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
        s = self.settings
        with self.autocast():
            reconstruction, latents, quantized = self.vqgan(images)
        reconstruction = reconstruction.float()
        difference = reconstruction - images
        pixel = difference.abs().mean()
        n = s.perceptual_pictures
        perceptual = self.perceptual(reconstruction[:n], images[:n]) if s.perceptual_weight else pixel.new_zeros(())
        faithful = pixel + s.squared_weight * difference.square().mean() + s.perceptual_weight * perceptual
        loss = faithful + quantized.loss
        usage, spread = perplexity(quantized.codes, self.vqgan.config.codebook_size)
        report = {"pixel": pixel.item(), "perceptual": perceptual.item(), "usage": usage, "perplexity": spread}
        if gan and s.disc_weight:
            self.discriminator.requires_grad_(False)  # a generator's step leaves the discriminator untouched
            with self.autocast():
                adversarial = adversarial_g(self.discriminator(reconstruction).float())
            self.discriminator.requires_grad_(True)
            weight = adaptive_weight(faithful, adversarial, self.vqgan.last_layer, s.adaptive_cap)
            ramp = min(1.0, (self.position - s.disc_start + 1) / s.disc_ramp)
            loss = loss + ramp * s.disc_weight * weight * adversarial
            report |= {"adversarial": adversarial.item(), "adaptive": weight.item()}
        self.opt_g.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.opt_g.step()
        return reconstruction.detach(), latents.detach().float(), quantized.codes, {"loss": loss.item()} | report

    def step_discriminator(self, images: Tensor, reconstruction: Tensor) -> dict[str, float]:
        with self.autocast():
            real, fake = self.discriminator(torch.cat([images, reconstruction])).float().chunk(2)
        loss = hinge_d(real, fake)
        self.opt_d.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.opt_d.step()
        return {"disc": loss.item(), "real": real.mean().item(), "fake": fake.mean().item()}

    @torch.no_grad()
    def start_codebook(self) -> None:
        latents = [self.vqgan.encode_latents(self.batch(i)) for i in range(self.settings.kmeans_batches)]
        self.vqgan.quantize.start(torch.cat(latents), self.generator)

    def autocast(self) -> torch.autocast:
        device = self.vqgan.last_layer.device.type
        return torch.autocast(device, dtype=self.precision, enabled=self.precision is not None)

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "vqgan": self.vqgan.state_dict(),
            "averaged": self.averaged.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        for part in ("vqgan", "averaged", "discriminator", "opt_g", "opt_d"):
            getattr(self, part).load_state_dict(state[part])
        self.generator.set_state(state["generator"])
