"""Stage 1: train a VQGAN on pictures, a step at a time.

Knows networks and batches, both handed in; nothing about folders, prompts or where weights lie.
Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

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


class VQGANStage:
    """A VQGAN's training as a job: ``step()`` is one batch, ``state_dict()`` is complete.

    batch: step -> this process's share of the images, (b, 3, H, W) in [-1, 1]; it must depend on the step alone, so
        that a resumed run sees the pictures it would have seen.
    perceptual: two batches of images -> scalar distance.
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
        self.averaged = deepcopy(vqgan).requires_grad_(False).eval()
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        if settings.decoder_only:
            for part in (vqgan.encoder, vqgan.quant_conv, vqgan.quantize):
                part.requires_grad_(False)
        self.trained = [p for p in vqgan.parameters() if p.requires_grad]
        self.opt_g = self.optimiser(self.trained)
        self.opt_d = self.optimiser(list(discriminator.parameters()))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.usage = torch.ones(vqgan.config.codebook_size, device=self.device)  # average uses of a code in a step
        self.logits = torch.zeros(2, device=self.device)  # running means of real and made logits, for LeCAM
        self.position = 0
        self.total = settings.steps
        if settings.compile:
            # not the decoder's last layer: the adaptive weight asks for its gradient by itself
            for network in (vqgan.encoder, vqgan.decoder.mid, *vqgan.decoder.up, discriminator):
                network.compile()

    def optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.Adam:
        fused = self.device.type in ("cpu", "cuda")
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate, betas=(0.5, 0.9), fused=fused)

    def rate(self) -> float:
        """The step size's factor in (0, 1]: warm-up, then a linear fall to a tenth over the last quarter."""
        left = (self.total - self.position) / (0.25 * self.total)
        return min(1.0, (self.position + 1) / max(self.settings.warmup, 1), max(left, 0.1))

    def step(self) -> dict[str, float]:
        """One batch: generator, then discriminator on the same pictures, then the codebook.

        Reports the losses, the share of the codebook in use and its perplexity, over the whole team.
        """
        s = self.settings
        if self.position == 0 and s.kmeans_batches and not s.decoder_only:
            self.init_codebook()
        for optimiser, lr in ((self.opt_g, s.learning_rate), (self.opt_d, s.learning_rate / 2)):
            for group in optimiser.param_groups:
                group["lr"] = lr * self.rate()
        if isinstance(quantizer := self.vqgan.quantize, GumbelQuantizer):
            quantizer.generator = self.generator
            # from 1 down to 1/16, half a cosine over the run
            quantizer.temperature = 0.0625 + 0.46875 * (1 + math.cos(math.pi * self.position / self.total))
        images = self.batch(self.position).to(self.device, memory_format=torch.channels_last)
        reconstruction, latents, codes, report = self.step_generator(images, self.position >= s.disc_start)
        if s.disc_weight and self.position >= s.disc_start - s.disc_ramp:  # it warms up before it counts
            report |= self.step_discriminator(images, reconstruction)
        codes = self.team.gather(codes)
        if not s.decoder_only:
            self.update_codebook(self.team.gather(latents), codes)
        self.update_ema()
        self.position += 1
        return self.told(report, codes)

    def step_generator(self, images: Tensor, gan: bool) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """A step of the VQGAN; the discriminator is left untouched.

        Returns the reconstructions (b, 3, H, W), the latents (b, c, h, w) before quantisation, their codes
        (b, h, w), all detached, and the losses.
        """
        self.discriminator.requires_grad_(False)
        made, latents, codes = list[Tensor](), list[Tensor](), list[Tensor]()
        report: dict[str, Tensor] = {}
        for part in images.chunk(self.settings.accumulate):
            share = len(part) / len(images)
            for name, value in self.backward(part, gan, share, made, latents, codes).items():
                report[name] = report.get(name, 0) + share * value
        self.optimise(self.opt_g, self.trained)
        self.discriminator.requires_grad_(True)
        return torch.cat(made), torch.cat(latents), torch.cat(codes), report

    def backward(
        self, images: Tensor, gan: bool, share: float, made: list[Tensor], latents: list[Tensor], codes: list[Tensor]
    ) -> dict[str, Tensor]:
        """The gradient of ``share`` of the loss of some images; what was made on the way is put on the lists."""
        s = self.settings
        with self.autocast():
            reconstruction, before, quantized = self.vqgan(images)
        made.append(reconstruction.detach().float())
        latents.append(before.detach().float())
        codes.append(quantized.codes)
        # the losses' gradients on the picture are taken once; from there on one backward pass carries their sum
        picture = made[-1].requires_grad_()
        difference = picture - images
        pixel, n = difference.abs().mean(), -(-s.perceptual_pictures // self.team.size)
        perceptual = self.perceptual(picture[:n], images[:n]) if s.perceptual_weight else pixel.new_zeros(())
        faithful = pixel + s.squared_weight * difference.square().mean() + s.perceptual_weight * perceptual
        (gradient,) = torch.autograd.grad(faithful, picture)
        report = {"loss": faithful + quantized.loss, "pixel": pixel, "perceptual": perceptual}
        if gan and s.disc_weight:
            pull, told = self.adversarial(picture, reconstruction, gradient)
            gradient, report = gradient + pull, report | told
            report["loss"] = report["loss"] + s.disc_weight * told["adaptive"] * told["adversarial"]
        made[-1] = picture.detach()
        scale = self.scaler.scale(torch.full((), share, device=self.device))
        outputs, seeds = [reconstruction], [(gradient * scale).to(reconstruction.dtype)]
        if quantized.loss.requires_grad:
            outputs, seeds = [*outputs, quantized.loss], [*seeds, scale]
        torch.autograd.backward(outputs, seeds)
        return {name: value.detach() for name, value in report.items()}

    def adversarial(
        self, picture: Tensor, reconstruction: Tensor, faithful: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's pull on a made picture, weighed against the gradient ``faithful`` of the other losses."""
        s = self.settings
        with self.autocast():
            loss = GENERATOR_LOSSES[s.gan](self.discriminator(self.changed(picture)).float())
        (pull,) = torch.autograd.grad(self.scaler.scale(loss), picture)
        pull = pull / self.scaler.get_scale()
        # both at the last layer alone: a product each, not a pass through the network
        ends = [
            torch.autograd.grad(reconstruction, self.vqgan.last_layer, end.to(reconstruction.dtype), retain_graph=True)[
                0
            ]
            for end in (faithful, pull)
        ]
        self.team.all_reduce_mean(ends)
        weight = adaptive_weight(ends[0], ends[1], s.adaptive_cap)
        ramp = min(1.0, (self.position - s.disc_start + 1) / s.disc_ramp)
        return ramp * s.disc_weight * weight * pull, {"adversarial": loss, "adaptive": ramp * weight}

    def step_discriminator(self, images: Tensor, made: Tensor) -> dict[str, Tensor]:
        """A step of the discriminator on pictures (b, 3, H, W) and what was made of them; the VQGAN is untouched."""
        s = self.settings
        report: dict[str, Tensor] = {}
        pairs = zip(images.chunk(s.accumulate), made.chunk(s.accumulate), strict=True)
        for real_images, fake_images in pairs:
            share = len(real_images) / len(images)
            with self.autocast():
                both = self.changed(torch.cat([real_images, fake_images]))
                real, fake = self.discriminator(both).float().chunk(2)
            loss = DISCRIMINATOR_LOSSES[s.gan](real, fake)
            means = torch.stack([real.detach().mean(), fake.detach().mean()])
            if s.lecam_weight:
                loss = loss + s.lecam_weight * lecam(real, fake, self.logits[0], self.logits[1])
            self.scaler.scale(share * loss).backward()  # type: ignore[no-untyped-call]
            for name, value in (("disc", loss.detach()), ("real", means[0]), ("fake", means[1])):
                report[name] = report.get(name, 0) + share * value
        self.optimise(self.opt_d, list(self.discriminator.parameters()))
        means = torch.stack([report["real"], report["fake"]])
        self.team.all_reduce_mean([means])
        self.logits.lerp_(means, 0.01)
        return report

    def changed(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them."""
        if not self.settings.diff_augment:
            return images
        draws = torch.rand(len(images) * self.team.size, AUGMENT_DRAWS, generator=self.generator)
        return diff_augment(images, self.team.shard(draws))

    def optimise(self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        self.team.all_reduce_mean([p.grad for p in parameters if p.grad is not None])
        self.scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(parameters, self.settings.clip_gradient)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def update_codebook(self, latents: Tensor, codes: Tensor) -> None:
        """Move a codebook of averages, and restart the dead codes of any; latents and codes are the whole team's."""
        quantizer, below = self.vqgan.quantize, self.settings.revive_below
        if isinstance(quantizer, GumbelQuantizer):  # its codes are not near their latents, and noise keeps them alive
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
        keep = min(self.settings.ema, (self.position + 1) / (self.position + 10))
        means, now = list(self.averaged.state_dict().values()), list(self.vqgan.state_dict().values())
        torch._foreach_lerp_(means, now, 1 - keep)

    def told(self, report: dict[str, Tensor], codes: Tensor) -> dict[str, float]:
        """The report in numbers, averaged over the team."""
        values = torch.stack([value.detach().float() for value in report.values()])
        self.team.all_reduce_mean([values])
        usage, spread = codebook_usage(codes, self.vqgan.config.codebook_size)
        return dict(zip(report, values.tolist(), strict=True)) | {"usage": usage, "perplexity": spread}

    @torch.no_grad()
    def init_codebook(self) -> None:
        found: list[Tensor] = []
        # as many batches as were asked for, and more where they hold fewer latents than there are codes
        while len(found) < self.settings.kmeans_batches or sum(z[:, 0].numel() for z in found) < len(self.usage):
            found.append(self.team.gather(self.vqgan.encode_latents(self.batch(len(found)).to(self.device))))
        self.vqgan.quantize.init_from_kmeans(torch.cat(found), self.generator)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)

    PARTS = ("vqgan", "averaged", "discriminator", "opt_g", "opt_d", "scaler")

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position,
            **{part: getattr(self, part).state_dict() for part in self.PARTS},
            "usage": self.usage,
            "logits": self.logits,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
        for optimiser in (self.opt_g, self.opt_d):
            for parameter, kept in optimiser.state.items():
                for name in ("exp_avg", "exp_avg_sq"):
                    # a file keeps no memory format, and the fused step reads moments in the order of the weights
                    kept[name] = torch.empty_like(parameter).copy_(kept[name])
        self.usage.copy_(state["usage"])
        self.logits.copy_(state["logits"])
        self.generator.set_state(state["generator"])
