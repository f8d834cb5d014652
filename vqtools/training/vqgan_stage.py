"""Stage 1: train a VQGAN on pictures, step by step.

Knows networks and batches, both passed in; nothing about folders, prompts or weight files. Equations are those of
Esser, Rombach and Ommer 2021, arXiv 2012.09841, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqtools.core.distributed import Distributed
from vqtools.models.quantizers import GumbelQuantizer, codebook_usage
from vqtools.models.vqgan import VQGAN
from vqtools.training.losses import (
    AUGMENT_DRAWS,
    DISCRIMINATOR_LOSSES,
    GENERATOR_LOSSES,
    adaptive_weight,
    diff_augment,
    lecam,
)
from vqtools.training.settings import VQGANStageSettings

STATE_PARTS = {
    "vqgan": "vqgan",
    "averaged": "ema",
    "discriminator": "discriminator",
    "opt_g": "opt_g",
    "opt_d": "opt_d",
    "scaler": "scaler",
}
"""Keys of the parts in a state, with the attributes of the stage that hold them."""


class GeneratorPass(NamedTuple):
    """Results of the VQGAN on some images, all detached."""

    reconstruction: Tensor  # (b, 3, H, W)
    latents: Tensor  # (b, c, h, w), before quantisation
    codes: Tensor  # (b, h, w)
    losses: dict[str, Tensor]


class VQGANStage:
    """A VQGAN's training as a job: ``step()`` trains on one batch, ``state_dict()`` is complete.

    Minimises equation 6 of Esser et al. 2021: the VQ loss plus the adversarial loss, adaptively weighted.

    batch: maps a step to this process's shard of the images, (b, 3, H, W) in [-1, 1]; it must depend on the step
        alone, so that a resumed run sees the same pictures.
    perceptual: maps two batches of images to a scalar distance.
    precision: dtype of the networks' matrix products, None for fp32; losses and the codebook stay in fp32.
    """

    def __init__(
        self,
        settings: VQGANStageSettings,
        vqgan: VQGAN,
        discriminator: nn.Module,
        perceptual: Callable[[Tensor, Tensor], Tensor],
        batch: Callable[[int], Tensor],
        *,
        precision: torch.dtype | None = None,
        team: Distributed | None = None,
    ) -> None:
        self.settings, self.batch, self.perceptual, self.precision = settings, batch, perceptual, precision
        self.team = team or Distributed()
        self.device = vqgan.last_layer.device
        self.vqgan = vqgan.to(memory_format=torch.channels_last)
        self.ema = deepcopy(vqgan).requires_grad_(False).eval()
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        if settings.decoder_only:
            for part in (vqgan.encoder, vqgan.quant_conv, vqgan.quantize):
                part.requires_grad_(False)
        self.trained = [p for p in vqgan.parameters() if p.requires_grad]
        self.opt_g = _build_adam(self.trained, settings.learning_rate)
        self.opt_d = _build_adam(list(self.discriminator.parameters()), settings.learning_rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.usage = torch.ones(vqgan.config.codebook_size, device=self.device)  # mean uses of each code per step
        self.logits = torch.zeros(
            2, device=self.device
        )  # running means of the logits of real and generated pictures, for LeCam
        self.position = 0
        self.total = settings.steps
        if settings.compile:
            # not the decoder's last layer: the adaptive weight needs its gradient alone
            for network in (vqgan.encoder, vqgan.decoder.mid, *vqgan.decoder.up, discriminator):
                network.compile()

    def lr_factor(self) -> float:
        """The learning rate's factor in (0, 1]: linear warm-up, and a linear decay to 0.1 over the last quarter."""
        left = (self.total - self.position) / (0.25 * self.total)
        return min(1.0, (self.position + 1) / max(self.settings.warmup, 1), max(left, 0.1))

    def step(self) -> dict[str, float]:
        """Train on one batch: the generator, the discriminator on the same pictures, then the codebook.

        Reports the losses, the fraction of the codebook in use and its perplexity, over all processes.
        """
        s = self.settings
        if self.position == 0 and s.kmeans_batches and not s.decoder_only:
            self.init_codebook()
        for optimiser, lr in ((self.opt_g, s.learning_rate), (self.opt_d, s.learning_rate / 2)):
            for group in optimiser.param_groups:
                group["lr"] = lr * self.lr_factor()
        if isinstance(quantizer := self.vqgan.quantize, GumbelQuantizer):
            quantizer.generator = self.generator
            # the temperature decays from 1 to 1/16 by half a cosine
            quantizer.temperature = 0.0625 + 0.46875 * (1 + math.cos(math.pi * self.position / self.total))
        images = self.batch(self.position).to(self.device, memory_format=torch.channels_last)
        generated = self.step_generator(images, self.position >= s.disc_start)
        report = generated.losses
        if s.disc_weight and self.position >= s.disc_start - s.disc_ramp:  # it warms up before it counts
            report |= self.step_discriminator(images, generated.reconstruction)
        codes = self.team.gather(generated.codes)
        if not s.decoder_only:
            self.update_codebook(self.team.gather(generated.latents), codes)
        self.update_ema()
        self.position += 1
        return self._mean_report(report, codes)

    def step_generator(self, images: Tensor, gan: bool) -> GeneratorPass:
        """One optimiser step of the VQGAN on images (b, 3, H, W); the discriminator's gradients are left untouched.

        gan: whether the adversarial term counts.
        """
        self.discriminator.requires_grad_(False)
        parts = [self.backward(part, gan, len(part) / len(images)) for part in images.chunk(self.settings.accumulate)]
        self.optimise(self.opt_g, self.trained)
        self.discriminator.requires_grad_(True)
        losses: dict[str, Tensor] = {}
        for part in parts:
            for name, value in part.losses.items():
                losses[name] = losses.get(name, 0) + len(part.codes) / len(images) * value
        reconstruction, latents, codes = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[:3])
        return GeneratorPass(reconstruction, latents, codes, losses)

    def backward(self, images: Tensor, gan: bool, fraction: float) -> GeneratorPass:
        """Add the gradient of ``fraction`` of the loss of some images (b, 3, H, W) to the VQGAN's gradients."""
        s = self.settings
        with self.autocast():
            reconstruction, latents, quantized = self.vqgan(images)
        # the losses' gradients on the picture are taken once; from there on one backward pass carries their sum
        picture = reconstruction.detach().float().requires_grad_()
        difference = picture - images
        pixel, n = difference.abs().mean(), -(-s.perceptual_pictures // self.team.size)
        perceptual = self.perceptual(picture[:n], images[:n]) if s.perceptual_weight else pixel.new_zeros(())
        # L_rec: the first term of equation 4, as pixel errors and a perceptual distance (section 3.1)
        rec_loss = pixel + s.squared_weight * difference.square().mean() + s.perceptual_weight * perceptual
        (gradient,) = torch.autograd.grad(rec_loss, picture)
        # quantized.loss: the codebook and commitment terms of equation 4
        losses = {"loss": rec_loss + quantized.loss, "pixel": pixel, "perceptual": perceptual}
        if gan and s.disc_weight:
            gan_gradient, gan_losses = self.adversarial(picture, reconstruction, gradient)
            gradient, losses = gradient + gan_gradient, losses | gan_losses
            # equation 6: L_VQ + λ · L_GAN
            losses["loss"] = losses["loss"] + s.disc_weight * gan_losses["adaptive"] * gan_losses["adversarial"]
        scale = self.scaler.scale(torch.full((), fraction, device=self.device))
        outputs, seeds = [reconstruction], [(gradient * scale).to(reconstruction.dtype)]
        if quantized.loss.requires_grad:
            outputs, seeds = [*outputs, quantized.loss], [*seeds, scale]
        torch.autograd.backward(outputs, seeds)
        losses = {name: value.detach() for name, value in losses.items()}
        return GeneratorPass(picture.detach(), latents.detach().float(), quantized.codes, losses)

    def adversarial(
        self, picture: Tensor, reconstruction: Tensor, rec_gradient: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial loss of a reconstruction and its weighted gradient (b, 3, H, W) on the picture.

        rec_gradient: the other losses' gradient on the picture, against which it is weighed.
        """
        s = self.settings
        with self.autocast():
            loss = GENERATOR_LOSSES[s.gan](self.discriminator(self.augment(picture)).float())
        (gan_gradient,) = torch.autograd.grad(self.scaler.scale(loss), picture)
        gan_gradient = gan_gradient / self.scaler.get_scale()
        # both at the last layer alone: a product each, not a pass through the network
        rec_last, gan_last = (
            torch.autograd.grad(
                reconstruction, self.vqgan.last_layer, gradient.to(reconstruction.dtype), retain_graph=True
            )[0]
            for gradient in (rec_gradient, gan_gradient)
        )
        self.team.all_reduce_mean([rec_last, gan_last])
        weight = adaptive_weight(rec_last, gan_last, s.adaptive_cap)  # λ of equation 7
        ramp = min(1.0, (self.position - s.disc_start + 1) / s.disc_ramp)
        return ramp * s.disc_weight * weight * gan_gradient, {"adversarial": loss, "adaptive": ramp * weight}

    def step_discriminator(self, images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """One optimiser step of the discriminator on images and their reconstructions, both (b, 3, H, W)."""
        s = self.settings
        report: dict[str, Tensor] = {}
        pairs = zip(images.chunk(s.accumulate), reconstruction.chunk(s.accumulate), strict=True)
        for real_images, fake_images in pairs:
            fraction = len(real_images) / len(images)
            with self.autocast():
                augmented = self.augment(torch.cat([real_images, fake_images]))
                real, fake = self.discriminator(augmented).float().chunk(2)
            loss = DISCRIMINATOR_LOSSES[s.gan](real, fake)
            if s.lecam_weight:
                loss = loss + s.lecam_weight * lecam(real, fake, self.logits[0], self.logits[1])
            self.scaler.scale(fraction * loss).backward()  # type: ignore[no-untyped-call]
            means = {"disc": loss.detach(), "real": real.detach().mean(), "fake": fake.detach().mean()}
            for name, value in means.items():
                report[name] = report.get(name, 0) + fraction * value
        self.optimise(self.opt_d, list(self.discriminator.parameters()))
        logits = torch.stack([report["real"], report["fake"]])
        self.team.all_reduce_mean([logits])
        self.logits.lerp_(logits, 0.01)
        return report

    def augment(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them: DiffAugment where it is on."""
        if not self.settings.diff_augment:
            return images
        draws = torch.rand(len(images) * self.team.size, AUGMENT_DRAWS, generator=self.generator)
        return diff_augment(images, self.team.shard(draws))

    def optimise(self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all processes, clip them, and make the optimiser's step."""
        self.team.all_reduce_mean([p.grad for p in parameters if p.grad is not None])
        self.scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(parameters, self.settings.clip_gradient)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def update_codebook(self, latents: Tensor, codes: Tensor) -> None:
        """Move an EMA codebook, and restart dead codes of any; latents (b, c, h, w) and codes of all processes."""
        quantizer, below = self.vqgan.quantize, self.settings.revive_below
        if isinstance(quantizer, GumbelQuantizer):  # its codes are not near their latents, and noise keeps them in use
            return
        if quantizer.ema_decay is not None:
            quantizer.ema_update(latents, codes, self.generator, below)
        elif below:
            uses = torch.bincount(codes.flatten(), minlength=len(self.usage))
            self.usage.lerp_(uses.to(self.usage), 0.01)
            dead = self.usage < below
            quantizer.revive(latents, dead, self.generator)
            self.usage[dead] = 1.0

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the averaged weights towards the current ones; the decay rises to the settings' over the first steps."""
        keep = min(self.settings.ema, (self.position + 1) / (self.position + 10))
        means, now = list(self.ema.state_dict().values()), list(self.vqgan.state_dict().values())
        torch._foreach_lerp_(means, now, 1 - keep)

    def _mean_report(self, report: dict[str, Tensor], codes: Tensor) -> dict[str, float]:
        """The report as numbers, averaged over all processes, with the codebook's use."""
        values = torch.stack([value.detach().float() for value in report.values()])
        self.team.all_reduce_mean([values])
        usage, spread = codebook_usage(codes, self.vqgan.config.codebook_size)
        return dict(zip(report, values.tolist(), strict=True)) | {"usage": usage, "perplexity": spread}

    @torch.no_grad()
    def init_codebook(self) -> None:
        """Initialise the codebook by k-means on the latents of the first batches."""
        latents: list[Tensor] = []
        # at least kmeans_batches, and more if they hold fewer latents than there are codes
        while len(latents) < self.settings.kmeans_batches or sum(z[:, 0].numel() for z in latents) < len(self.usage):
            latents.append(self.team.gather(self.vqgan.encode_latents(self.batch(len(latents)).to(self.device))))
        self.vqgan.quantize.init_from_kmeans(torch.cat(latents), self.generator)

    def autocast(self) -> torch.autocast:
        """Mixed precision, or no change in fp32."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything a stage with the same settings needs to continue from here."""
        return {
            "position": self.position,
            **{key: getattr(self, name).state_dict() for key, name in STATE_PARTS.items()},
            "usage": self.usage,
            "logits": self.logits,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.position = state["position"]
        for key, name in STATE_PARTS.items():
            getattr(self, name).load_state_dict(state[key])
        for optimiser in (self.opt_g, self.opt_d):
            _match_memory_format(optimiser)
        self.usage.copy_(state["usage"])
        self.logits.copy_(state["logits"])
        self.generator.set_state(state["generator"])


def _build_adam(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.5, 0.9), fused=fused)


def _match_memory_format(optimiser: torch.optim.Optimizer) -> None:
    """Lay Adam's moments out in memory as their weights are.

    A file keeps no memory format, and the fused step reads moments in the order of the weights.
    """
    for parameter, moments in optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter).copy_(moments[name])
