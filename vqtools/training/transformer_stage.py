"""Stage 2: train a transformer on codes, a step at a time.

Knows a transformer and batches of codes, both handed in; nothing about pictures, folders or where weights lie.
Esser, Rombach, Ommer 2021, arXiv 2012.09841, section 3.2.
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
    """Grids of codes in raster order (b, n) and what is known of them beforehand, as the transformer's config asks."""

    codes: Tensor
    condition: Tensor | None = None  # (b, p) codes: a start, another picture's, or the picture's own with holes
    label: Tensor | None = None  # (b,) classes
    caption: CaptionEmbedding | None = None

    def apply(self, change: Callable[[Tensor], Tensor]) -> CodeBatch:
        """The batch with every tensor changed alike: dealt out, cut, moved."""
        caption = self.caption and CaptionEmbedding(*map(change, self.caption))
        condition, label = (part if part is None else change(part) for part in (self.condition, self.label))
        return CodeBatch(change(self.codes), condition, label, caption)

    def to(self, device: torch.device) -> CodeBatch:
        return self.apply(lambda tensor: tensor.to(device))


def batch_prefix(gpt: GPT, batch: CodeBatch, dropped: Tensor | None = None) -> Tensor:
    """The tokens (b, p, w) before the codes; where ``dropped`` (b,) is true, those that say nothing."""
    return embed_condition(gpt, batch.caption, batch.condition, batch.label, dropped)


def negative_log_likelihood(
    gpt: GPT, batch: CodeBatch, dropped: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """-ln p(s_i | s_<i, condition) of every code (b, n), in nats.

    seen (b, n): the codes as the transformer reads them, where they differ from those that it must guess.
    """
    read = batch.codes if seen is None else seen
    logits = gpt(read[:, :-1], batch_prefix(gpt, batch, dropped), skip=gpt.config.prefix_length - 1)
    return F.cross_entropy(logits.float().transpose(1, 2), batch.codes, reduction="none")


def target_mask(batch: CodeBatch, config: GPTConfig) -> Tensor:
    """Which codes (b, n) are to be guessed: of a picture with holes those in the holes, else all."""
    if config.mask_code < 0 or batch.condition is None:
        return torch.ones_like(batch.codes, dtype=torch.bool)
    return batch.condition == config.mask_code


def parameter_groups(gpt: GPT, decay: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser: matrices that multiply decay; biases, norms, tables and positions do not."""
    matrices = {id(m.weight) for m in gpt.modules() if isinstance(m, nn.Linear)}
    decayed = [p for p in gpt.parameters() if id(p) in matrices]
    rest = [p for p in gpt.parameters() if id(p) not in matrices]
    return [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def muon_parameters(gpt: GPT) -> list[nn.Parameter]:
    """The weights of the blocks' linear layers: what Muon turns."""
    layers = [m for block in gpt.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    return [p for layer in layers for name, p in layer.named_parameters() if name == "weight"]


def scale_residual_init(gpt: GPT) -> None:
    """Let every block begin as a small addition: its outgoing layers shrunk by the depth (Radford 2019, GPT-2, 2.3)."""
    with torch.no_grad():
        for name, weight in gpt.blocks.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.2.weight", "mlp.down.weight")):
                weight.mul_((2 * gpt.config.layers) ** -0.5)


class TransformerStage:
    """A transformer's training as a job: ``step()`` is one batch, ``state_dict()`` is complete.

    batch: step -> the whole team's batch; it must depend on the step alone, so that a resumed run sees what it would
        have seen. Noise, dropped conditions and dropout depend on seed and step alone too: a state needs no generators.
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
        self.averaged = deepcopy(gpt).requires_grad_(False).eval()
        self.trained = [p for p in gpt.parameters() if p.requires_grad]
        self.optimisers = self._optimisers()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)
        self.position, self.total = 0, settings.steps
        if settings.compile:
            for block in gpt.blocks:
                block.compile()

    def _optimisers(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Each optimiser with the highest step size that its parameters take."""
        s = self.settings
        fused = self.device.type in ("cpu", "cuda")
        turned = muon_parameters(self.gpt) if s.optimiser == "muon" else []
        known = {id(p) for p in turned}
        kept = parameter_groups(self.gpt, 0.0 if turned else s.weight_decay)
        for group in kept:
            group["params"] = [p for p in group["params"] if id(p) not in known]
        adam = torch.optim.AdamW(kept, lr=s.learning_rate, betas=(0.9, 0.95), fused=fused)
        found: list[tuple[torch.optim.Optimizer, float]] = [(adam, s.learning_rate)]
        if turned:
            # Adam's step is its rate in every number; Muon turns whole matrices, and takes ten times as much
            muon = torch.optim.Muon(turned, lr=10 * s.learning_rate, weight_decay=s.weight_decay)
            found.append((muon, 10 * s.learning_rate))
        return found

    def rate(self) -> float:
        """The step size's factor in (0, 1]: warm-up, then half a cosine down to a fiftieth."""
        s = self.settings
        rise = (self.position + 1) / max(s.warmup, 1)
        share = min(1.0, max(0.0, (self.position - s.warmup) / max(1, s.steps - s.warmup)))
        return min(1.0, rise, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))

    def step(self) -> dict[str, float]:
        """One batch. Reports the loss in nats a code, the same in bits, and the gradient's length."""
        self.gpt.train()
        for optimiser, lr in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * self.rate()
        batch, dropped, seen = self.drawn(self.batch(self.position))
        cells = target_mask(batch, self.gpt.config)
        # a process may hold more holes than another: each code counts the same over the whole team
        count = torch.tensor(float(cells.sum()), device=self.device)
        self.team.all_reduce_mean([count])
        nats = torch.zeros((), device=self.device)
        with self._dropout():
            for rows in torch.arange(len(batch.codes), device=self.device).chunk(self.settings.accumulate):
                part = batch.apply(lambda tensor, rows=rows: tensor[rows])  # type: ignore[misc]
                with self.autocast():
                    lost = negative_log_likelihood(self.gpt, part, dropped[rows], None if seen is None else seen[rows])
                loss = (lost * cells[rows]).sum() / count
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                nats += loss.detach()
        length = self.optimise()
        self.update_ema()
        self.position += 1
        told = torch.stack([nats, length.detach().float().to(self.device)])
        self.team.all_reduce_mean([told])
        loss_now, norm = told.tolist()
        return {"loss": loss_now, "bits": loss_now / math.log(2), "gradient": norm}

    def drawn(self, batch: CodeBatch) -> tuple[CodeBatch, Tensor, Tensor | None]:
        """This process's share, which of its conditions are dropped, and its codes as they are read (pkeep)."""
        s, share = self.settings, self.team.shard
        draws = torch.Generator().manual_seed((s.seed << 32) + self.position)
        dropped = torch.rand(len(batch.codes), generator=draws) < s.drop_condition
        seen = None
        if s.pkeep < 1:
            noise = torch.randint(self.gpt.config.num_codes, batch.codes.shape, generator=draws)
            kept = torch.rand(batch.codes.shape, generator=draws) < s.pkeep
            seen = share(torch.where(kept, batch.codes.cpu(), noise)).to(self.device)
        return batch.apply(share).to(self.device), share(dropped).to(self.device), seen

    @contextlib.contextmanager
    def _dropout(self) -> Iterator[None]:
        """Dropout's draws by seed, step and process; what others draw meanwhile stays untouched."""
        if not self.gpt.config.dropout:
            yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(((self.settings.seed * self.team.size + self.team.rank) << 32) + self.position)
            yield

    def optimise(self) -> Tensor:
        """A step of every optimiser; the gradient's length before it was shortened."""
        self.team.all_reduce_mean([p.grad for p in self.trained if p.grad is not None])
        for optimiser, _ in self.optimisers:
            self.scaler.unscale_(optimiser)
        length = nn.utils.clip_grad_norm_(self.trained, self.settings.clip_gradient)
        for optimiser, _ in self.optimisers:
            self.scaler.step(optimiser)
        self.scaler.update()
        for optimiser, _ in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        return length

    @torch.no_grad()
    def update_ema(self) -> None:
        keep = min(self.settings.ema, (self.position + 1) / (self.position + 10))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.gpt.parameters()), 1 - keep)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None)

    @torch.no_grad()
    def measure(self, batches: Iterable[CodeBatch]) -> float:
        """Mean surprise in nats a code of the averaged weights, each code to be guessed counted once."""
        nats = count = 0.0
        for batch in batches:
            batch = batch.to(self.device)
            cells = target_mask(batch, self.gpt.config)
            with self.autocast():
                lost = negative_log_likelihood(self.averaged, batch)
            nats, count = nats + float((lost * cells).sum()), count + float(cells.sum())
        return nats / count if count else math.nan

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "gpt": self.gpt.state_dict(),
            "averaged": self.averaged.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{f"optimiser{i}": optimiser.state_dict() for i, (optimiser, _) in enumerate(self.optimisers)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        for part in ("gpt", "averaged", "scaler"):
            getattr(self, part).load_state_dict(state[part])
        for i, (optimiser, _) in enumerate(self.optimisers):
            optimiser.load_state_dict(state[f"optimiser{i}"])
