"""The codebook: replace every latent vector by its nearest code.

Knows vectors and codes; nothing about pictures, encoders or optimisers.

Shapes: b batch, c dimensions of a code, h and w the grid, k codes in the codebook, n vectors.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Metric = Literal["euclidean", "cosine"]


class QuantizerOutput(NamedTuple):
    """What a quantiser gives back."""

    latents: Tensor  # (b, c, h, w), the chosen codes' vectors; their gradient goes straight through to the input
    codes: Tensor  # (b, h, w) of int64
    loss: Tensor  # scalar: codebook and commitment terms


def straight_through(vectors: Tensor, chosen: Tensor) -> Tensor:
    """Value of ``chosen``, gradient to ``vectors`` unchanged. Bengio et al. 2013, arXiv 1308.3432."""
    return vectors + (chosen - vectors).detach()


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index (n,) of the code nearest to each of the vectors (n, c) in the codebook (k, c), by Euclidean distance."""
    # |v|² is the same for every code and left out; fp32, because near ties decide which code is drawn
    vectors, codebook = vectors.float(), codebook.float()
    return torch.addmm(codebook.square().sum(1), vectors, codebook.T, alpha=-2).argmin(1)


def kmeans(vectors: Tensor, k: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Centres (k, c) of the vectors (n, c), n at least k, by Lloyd's algorithm from random vectors."""
    if len(vectors) < k:
        raise ValueError(f"k-means for {k} codes needs at least {k} vectors, got {len(vectors)}")
    order = torch.randperm(len(vectors), generator=generator)[:k].to(vectors.device)
    centres = vectors[order].clone()
    for _ in range(iterations):
        codes = nearest_codes(vectors, centres)
        count = torch.bincount(codes, minlength=k).unsqueeze(1)
        total = torch.zeros_like(centres).index_add_(0, codes, vectors)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres)
    return centres


class VectorQuantizer(nn.Module):
    """Nearest-code quantiser. van den Oord et al. 2017, arXiv 1711.00937, section 3.

    metric: "euclidean", or "cosine" where latents and codes are unit vectors at every use
        (Yu et al. 2022, arXiv 2110.04627, section 3.2).
    beta: weight of the commitment term; with ``legacy`` it weighs the codebook term instead, as the reference
        code of VQGAN does by default. Both give the same value: only the gradients differ.
    ema_decay: learn the codebook by moving averages instead of gradients (van den Oord et al. 2017, appendix A.1),
        through :meth:`update`; None for gradients.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        metric: Metric = "euclidean",
        beta: float = 0.25,
        legacy: bool = True,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.metric, self.beta, self.legacy, self.ema_decay = metric, beta, legacy, ema_decay
        self.embedding = nn.Embedding(codebook_size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)
        if ema_decay is not None:
            self.embedding.weight.requires_grad_(False)
            self.register_buffer("cluster_size", torch.ones(codebook_size))
            self.register_buffer("embed_sum", self.embedding.weight.detach().clone())

    cluster_size: Tensor
    embed_sum: Tensor

    @property
    def codebook(self) -> Tensor:
        """The codes (k, c) as the decoder sees them."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=1) if self.metric == "cosine" else weight

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Codes (b, h, w) -> their vectors (b, c, h, w)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2).contiguous()

    def flatten(self, latents: Tensor) -> Tensor:
        """Latents (b, c, h, w) -> vectors (b h w, c) in fp32, of unit length where the metric is cosine."""
        vectors = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
        return F.normalize(vectors, dim=1) if self.metric == "cosine" else vectors

    def forward(self, latents: Tensor) -> QuantizerOutput:
        b, c, h, w = latents.shape
        vectors, codebook = self.flatten(latents), self.codebook
        codes = nearest_codes(vectors.detach(), codebook.detach())
        chosen = F.embedding(codes, codebook)
        codebook_term = F.mse_loss(chosen, vectors.detach())
        commitment = F.mse_loss(vectors, chosen.detach())
        loss = self.beta * codebook_term + commitment if self.legacy else codebook_term + self.beta * commitment
        if self.ema_decay is not None:  # the codebook has no gradient: only the encoder's term is left
            loss = self.beta * commitment
        out = straight_through(vectors, chosen).view(b, h, w, c).permute(0, 3, 1, 2)
        return QuantizerOutput(out, codes.view(b, h, w), loss)

    def quantize_nearest(self, latents: Tensor) -> Tensor:
        """Latents (b, c, h, w) near codes -> the nearest codes' vectors; the gradient goes straight through."""
        # not self.forward: a quantiser that chooses otherwise in encoding still has nearest codes in painting
        return VectorQuantizer.forward(self, latents).latents

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator) -> None:
        """Start the codebook at the k-means centres of latents (b, c, h, w): codes begin where the data is."""
        centres = kmeans(self.flatten(latents), self.embedding.num_embeddings, generator)
        self.embedding.weight.copy_(centres)
        if self.ema_decay is not None:
            self.cluster_size.fill_(1)
            self.embed_sum.copy_(self.embedding.weight)

    @torch.no_grad()
    def update(
        self, latents: Tensor, codes: Tensor, generator: torch.Generator | None = None, revive_below: float = 0.0
    ) -> int:
        """One moving-average step of the codebook; returns how many dead codes were revived.

        latents (b, c, h, w) before quantisation and the codes (b, h, w) chosen for them. A code whose average use
        per step falls under ``revive_below`` restarts at a random latent of this batch
        (Zeghidour et al. 2021, arXiv 2107.03312, section III-C).
        """
        assert self.ema_decay is not None, "update() is for codebooks with ema_decay"
        vectors, flat = self.flatten(latents), codes.flatten()
        size = torch.bincount(flat, minlength=len(self.cluster_size)).to(vectors)
        total = torch.zeros_like(self.embed_sum).index_add_(0, flat, vectors)
        self.cluster_size.lerp_(size, 1 - self.ema_decay)
        self.embed_sum.lerp_(total, 1 - self.ema_decay)
        dead = self.cluster_size < revive_below
        revived = int(dead.sum())
        if revived:
            pick = torch.randint(len(vectors), (revived,), generator=generator).to(vectors.device)
            self.embed_sum[dead] = vectors[pick] * revive_below
            self.cluster_size[dead] = revive_below
        # Laplace smoothing keeps a rarely used code finite
        n, k = self.cluster_size.sum(), len(self.cluster_size)
        smoothed = (self.cluster_size + 1e-5) / (n + k * 1e-5) * n
        centres = self.embed_sum / smoothed.unsqueeze(1)
        self.embedding.weight.copy_(F.normalize(centres, dim=1) if self.metric == "cosine" else centres)
        return revived

    @torch.no_grad()
    def revive(self, latents: Tensor, dead: Tensor, generator: torch.Generator) -> int:
        """Restart the codes where ``dead`` (k,) is true at random latents (b, c, h, w); returns how many.

        For a codebook that gradients move; one of averages revives its dead in :meth:`update`.
        """
        vectors, count = self.flatten(latents), int(dead.sum())
        if count:
            pick = torch.randint(len(vectors), (count,), generator=generator).to(vectors.device)
            self.embedding.weight[dead] = vectors[pick]
        return count


class GumbelQuantizer(VectorQuantizer):
    """Quantiser whose codes are chosen by a learned projection instead of by distance.

    Jang et al. 2017, arXiv 1611.01144; the reference's GumbelVQ. The choice is the likeliest code, so that the same
    picture has the same codes; the loss is kl_weight · KL(q ‖ uniform).

    temperature: above 0 a code is drawn instead, and its gradient is that of a softmax at this temperature: for
        training, from 1 down to 1/16 (Ramesh et al. 2021, arXiv 2102.12092, appendix A.2). ``generator`` draws.
    """

    temperature: float = 0.0
    generator: torch.Generator | None = None

    def __init__(self, codebook_size: int, dim: int, *, kl_weight: float = 5e-4) -> None:
        super().__init__(codebook_size, dim)
        self.kl_weight = kl_weight
        self.proj = nn.Conv2d(dim, codebook_size, 1)

    def forward(self, latents: Tensor) -> QuantizerOutput:
        logits = self.proj(latents)  # (b, k, h, w)
        share = chosen = logits.softmax(1)
        if self.temperature:
            uniform = torch.rand(logits.shape, generator=self.generator).to(logits).clamp(1e-10, 1 - 1e-7)
            chosen = ((logits - (-uniform.log()).log()) / self.temperature).softmax(1)
        codes = chosen.argmax(1)
        mixed = torch.einsum("bkhw,kc->bchw", chosen, self.codebook)
        k = self.embedding.num_embeddings
        loss = self.kl_weight * (share * (share * k + 1e-10).log()).sum(1).mean()
        return QuantizerOutput(straight_through(mixed, self.codes_to_latents(codes)), codes, loss)


def codebook_usage(codes: Tensor, codebook_size: int) -> tuple[float, float]:
    """Share of the codebook in use (0 to 1) and perplexity (1 to codebook_size) of codes of any shape."""
    share = torch.bincount(codes.flatten(), minlength=codebook_size).double() / max(codes.numel(), 1)
    used = share[share > 0]
    return len(used) / codebook_size, float((-(used * used.log()).sum()).exp())
