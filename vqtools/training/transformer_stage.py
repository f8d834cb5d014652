"""Stage 2: train a transformer on codes, step by step.

Knows a transformer and batches of codes, both passed in; nothing about pictures, folders or weight files. Equations
are those of Esser, Rombach and Ommer 2021, arXiv 2012.09841, section 3.2.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.core.distributed import Distributed
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.sampling.condition import embed_condition
from vqtools.training.settings import TransformerStageSettings


class CodeBatch(NamedTuple):
    """Grids of codes in raster order (b, n) and their conditions, as the transformer's config needs them."""

    codes: Tensor
    condition: Tensor | None = None  # (b, p) codes: a start code, another picture's, or the picture's own with holes
    label: Tensor | None = None  # (b,) classes
    caption: CaptionEmbedding | None = None

    def apply(self, change: Callable[[Tensor], Tensor]) -> CodeBatch:
        """Apply a function to every tensor of the batch."""
        caption = self.caption and CaptionEmbedding(*map(change, self.caption))
        condition, label = (part if part is None else change(part) for part in (self.condition, self.label))
        return CodeBatch(change(self.codes), condition, label, caption)

    def to(self, device: torch.device) -> CodeBatch:
        """Move every tensor to a device."""
        return self.apply(lambda tensor: tensor.to(device))


def batch_prefix(gpt: GPT, batch: CodeBatch, dropped: Tensor | None = None) -> Tensor:
    """The tokens (b, p, d) before the codes; empty ones where ``dropped`` (b,) is true."""
    return embed_condition(gpt, batch.caption, batch.condition, batch.label, dropped)


def negative_log_likelihood(
    gpt: GPT, batch: CodeBatch, dropped: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """-ln p(s_i | s_<i, c) of every code (b, n), in nats: equations 9 and 10.

    seen: (b, n) the codes as the transformer reads them, if they differ from those it must predict.
    """
    read = batch.codes if seen is None else seen
    logits = gpt(read[:, :-1], batch_prefix(gpt, batch, dropped), skip=gpt.config.prefix_length - 1)
    return F.cross_entropy(logits.float().transpose(1, 2), batch.codes, reduction="none")


def target_mask(batch: CodeBatch, config: GPTConfig) -> Tensor:
    """Which codes (b, n) are to be predicted: of a picture with holes those in the holes, else all."""
    if config.mask_code < 0 or batch.condition is None:
        return torch.ones_like(batch.codes, dtype=torch.bool)
    return batch.condition == config.mask_code


def parameter_groups(gpt: GPT, decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: only the matrices of linear layers have weight decay."""
    matrix_ids = {id(m.weight) for m in gpt.modules() if isinstance(m, nn.Linear)}
    decayed = [p for p in gpt.parameters() if id(p) in matrix_ids]
    undecayed = [p for p in gpt.parameters() if id(p) not in matrix_ids]
    return [{"params": decayed, "weight_decay": decay}, {"params": undecayed, "weight_decay": 0.0}]


def muon_parameters(gpt: GPT) -> list[nn.Parameter]:
    """The matrices of the blocks' linear layers, which Muon optimises (Jordan 2024)."""
    layers = [m for block in gpt.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    return [p for layer in layers for name, p in layer.named_parameters() if name == "weight"]


def scale_residual_init(gpt: GPT) -> None:
    """Scale the residual layers' initial weights by 1 / sqrt(2 · layers): GPT-2, Radford et al. 2019, section 2.3."""
    with torch.no_grad():
        for name, weight in gpt.blocks.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.2.weight", "mlp.down.weight")):
                weight.mul_((2 * gpt.config.layers) ** -0.5)


class TransformerStage:
    """A transformer's training as a job: ``step()`` trains on one batch, ``state_dict()`` is complete.

    Minimises equation 9, the negative log-likelihood of the codes.

    batch: maps a step to the batch of all processes; it must depend on the step alone, so that a resumed run sees
        the same batches. Noise, dropped conditions and dropout depend on seed and step alone too, so a state needs
        no generators.
    precision: dtype of the matrix products, None for fp32; the loss and the weights stay in fp32.
    """

    def __init__(
        self,
        settings: TransformerStageSettings,
        gpt: GPT,
        batch: Callable[[int], CodeBatch],
        *,
        precision: torch.dtype | None = None,
        team: Distributed | None = None,
    ) -> None:
        self.settings, self.gpt, self.batch, self.precision = settings, gpt, batch, precision
        self.team = team or Distributed()
        self.device = gpt.tok_emb.weight.device
        self.ema = deepcopy(gpt).requires_grad_(False).eval()
        self.trained = [p for p in gpt.parameters() if p.requires_grad]
        self.optimisers = self._build_optimisers()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self.position, self.total = 0, settings.steps
        if settings.compile:
            for block in gpt.blocks:
                block.compile()

    def _build_optimisers(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """The optimisers, each with its peak learning rate."""
        s = self.settings
        fused = self.device.type in ("cpu", "cuda")
        matrices = muon_parameters(self.gpt) if s.optimiser == "muon" else []
        muon_ids = {id(p) for p in matrices}
        groups = parameter_groups(self.gpt, 0.0 if matrices else s.weight_decay)
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in muon_ids]
        adam = torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.95), fused=fused)
        optimisers: list[tuple[torch.optim.Optimizer, float]] = [(adam, s.learning_rate)]
        if matrices:
            # Adam moves every element by about the learning rate; Muon orthogonalises whole matrices and takes 10×
            muon = torch.optim.Muon(matrices, lr=10 * s.learning_rate, weight_decay=s.weight_decay)
            optimisers.append((muon, 10 * s.learning_rate))
        return optimisers

    def lr_factor(self) -> float:
        """The learning rate's factor in (0, 1]: linear warm-up, then cosine decay to 0.02."""
        s = self.settings
        warmup = (self.position + 1) / max(s.warmup, 1)
        progress = min(1.0, max(0.0, (self.position - s.warmup) / max(1, s.steps - s.warmup)))
        return min(1.0, warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def step(self) -> dict[str, float]:
        """Train on one batch. Reports the loss in nats per code, the same in bits, and the gradient's norm."""
        self.gpt.train()
        for optimiser, lr in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * self.lr_factor()
        batch, dropped, seen = self.prepare_batch(self.batch(self.position))
        cells = target_mask(batch, self.gpt.config)
        # a process may hold more holes than another: each code counts the same over all processes
        count = torch.tensor(float(cells.sum()), device=self.device)
        self.team.all_reduce_mean([count])
        nats = torch.zeros((), device=self.device)
        with self._dropout():
            for rows in torch.arange(len(batch.codes), device=self.device).chunk(self.settings.accumulate):
                part = batch.apply(lambda tensor, rows=rows: tensor[rows])  # type: ignore[misc]
                part_seen = None if seen is None else seen[rows]
                with self.autocast():
                    nll = negative_log_likelihood(self.gpt, part, dropped[rows], part_seen)
                loss = (nll * cells[rows]).sum() / count
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                nats += loss.detach()
        norm = self.optimise()
        self.update_ema()
        self.position += 1
        report = torch.stack([nats, norm.detach().float().to(self.device)])
        self.team.all_reduce_mean([report])
        loss_value, norm_value = report.tolist()
        return {"loss": loss_value, "bits": loss_value / math.log(2), "gradient": norm_value}

    def prepare_batch(self, batch: CodeBatch) -> tuple[CodeBatch, Tensor, Tensor | None]:
        """This process's shard (b rows) of a batch, whether each condition is dropped (b,), and the codes to read.

        The codes to read (b, n) are the batch's with a fraction 1 - ``pkeep`` replaced by random ones; None if all
        are read as they are.
        """
        s, shard = self.settings, self.team.shard
        draws = torch.Generator().manual_seed((s.seed << 32) + self.position)
        dropped = torch.rand(len(batch.codes), generator=draws) < s.drop_condition
        seen = None
        if s.pkeep < 1:
            noise = torch.randint(self.gpt.config.num_codes, batch.codes.shape, generator=draws)
            kept = torch.rand(batch.codes.shape, generator=draws) < s.pkeep
            seen = shard(torch.where(kept, batch.codes.cpu(), noise)).to(self.device)
        return batch.apply(shard).to(self.device), shard(dropped).to(self.device), seen

    @contextlib.contextmanager
    def _dropout(self) -> Iterator[None]:
        """Seed dropout by seed, step and process, and leave torch's global generator as it was."""
        if not self.gpt.config.dropout:
            yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(((self.settings.seed * self.team.size + self.team.rank) << 32) + self.position)
            yield

    def optimise(self) -> Tensor:
        """Clip the gradient, make a step of every optimiser, and return the gradient's norm before clipping."""
        self.team.all_reduce_mean([p.grad for p in self.trained if p.grad is not None])
        for optimiser, _ in self.optimisers:
            self.scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self.trained, self.settings.clip_gradient)
        for optimiser, _ in self.optimisers:
            self.scaler.step(optimiser)
        self.scaler.update()
        for optimiser, _ in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the averaged weights towards the current ones; the decay rises to the settings' over the first steps."""
        keep = min(self.settings.ema, (self.position + 1) / (self.position + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.gpt.parameters()), 1 - keep)

    def autocast(self) -> torch.autocast:
        """Mixed precision, or no change in fp32."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)

    @torch.no_grad()
    def measure(self, batches: Iterable[CodeBatch]) -> float:
        """Mean negative log-likelihood of the averaged weights in nats per predicted code; NaN without batches."""
        nats = count = 0.0
        for batch in (cpu_batch.to(self.device) for cpu_batch in batches):
            cells = target_mask(batch, self.gpt.config)
            with self.autocast():
                nll = negative_log_likelihood(self.ema, batch)
            nats, count = nats + float((nll * cells).sum()), count + float(cells.sum())
        return nats / count if count else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Everything a stage with the same settings needs to continue from here."""
        return {
            "position": self.position,
            "gpt": self.gpt.state_dict(),
            "averaged": self.ema.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{f"optimiser{i}": optimiser.state_dict() for i, (optimiser, _) in enumerate(self.optimisers)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.position = state["position"]
        self.gpt.load_state_dict(state["gpt"])
        self.ema.load_state_dict(state["averaged"])
        self.scaler.load_state_dict(state["scaler"])
        for i, (optimiser, _) in enumerate(self.optimisers):
            optimiser.load_state_dict(state[f"optimiser{i}"])
