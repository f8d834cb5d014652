"""Vector quantisers: replace every latent vector by a code of a codebook.

Works on latents and codes; knows nothing about images, encoders or optimisers.

Shapes: b batch, c dimensions of a code, h and w sides of the grid, k codes in the codebook, n vectors.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Metric = Literal["euclidean", "cosine"]


class QuantizerOutput(NamedTuple):
    """The result of quantising latents."""

    latents: Tensor  # (b, c, h, w): the vectors of the codes, with a straight-through gradient to the input
    codes: Tensor  # (b, h, w) of int64
    loss: Tensor  # scalar: codebook and commitment terms


def straight_through(vectors: Tensor, chosen: Tensor) -> Tensor:
    """Return ``chosen``, and pass its gradient on to ``vectors`` unchanged. Bengio et al. 2013, arXiv 1308.3432."""
    # z + sg[e - z]
    return vectors + (chosen - vectors).detach()


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the indices (n,) of the codes (k, c) nearest to vectors (n, c) in Euclidean distance."""
    # argmin |v - e|² = argmin |e|² - 2 v·e (VQ-VAE, eq. 1); |v|² is the same for every code.
    # In fp32, because rounding would decide between nearly equal distances.
    vectors, codebook = vectors.float(), codebook.float()
    return torch.addmm(codebook.square().sum(1), vectors, codebook.T, alpha=-2).argmin(1)


def kmeans(vectors: Tensor, k: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Cluster vectors (n, c) with Lloyd's algorithm and return the centres (k, c).

    The centres start at k random vectors; an empty cluster keeps its centre. Raises ValueError if n < k.
    """
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
    """Nearest-code quantiser. van den Oord et al. 2017 (VQ-VAE), arXiv 1711.00937, section 3.

    metric: "euclidean", or "cosine", which normalises latents and codes to unit length at every use
        (Yu et al. 2022, arXiv 2110.04627, section 3.2).
    beta: weight of the commitment term. With ``legacy`` it weighs the codebook term instead, as the reference
        implementation of VQGAN does by default; the gradients differ, both terms have the same value.
    ema_decay: decay of the exponential moving averages that learn the codebook (VQ-VAE, appendix A.1), in
        :meth:`ema_update`; None to learn it by gradients.
    """

    cluster_size: Tensor  # (k,), only with ema_decay: N of VQ-VAE's appendix A.1
    embed_sum: Tensor  # (k, c), only with ema_decay: m of the same

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

    @property
    def codebook(self) -> Tensor:
        """The vectors (k, c) of the codes, of unit length if the metric is cosine."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=1) if self.metric == "cosine" else weight

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Look up the vectors (b, c, h, w) of codes (b, h, w)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2).contiguous()

    def flatten(self, latents: Tensor) -> Tensor:
        """Reshape latents (b, c, h, w) to vectors (b h w, c) in fp32, of unit length if the metric is cosine."""
        vectors = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
        return F.normalize(vectors, dim=1) if self.metric == "cosine" else vectors

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantise latents (b, c, h, w)."""
        b, c, h, w = latents.shape
        vectors, codebook = self.flatten(latents), self.codebook
        codes = nearest_codes(vectors.detach(), codebook.detach())
        chosen = F.embedding(codes, codebook)
        # VQ-VAE, eq. 3: |sg[z] - e|² and beta |z - sg[e]|²
        codebook_term = F.mse_loss(chosen, vectors.detach())
        commitment = F.mse_loss(vectors, chosen.detach())
        loss = self.beta * codebook_term + commitment if self.legacy else codebook_term + self.beta * commitment
        if self.ema_decay is not None:  # moving averages replace the codebook term
            loss = self.beta * commitment
        out = straight_through(vectors, chosen).view(b, h, w, c).permute(0, 3, 1, 2)
        return QuantizerOutput(out, codes.view(b, h, w), loss)

    def quantize_nearest(self, latents: Tensor) -> Tensor:
        """Replace latents (b, c, h, w) by the nearest codes' vectors, with a straight-through gradient."""
        # not self.forward, which subclasses override: painting quantises to the nearest code in any case
        return VectorQuantizer.forward(self, latents).latents

    @torch.no_grad()
    def init_from_kmeans(self, latents: Tensor, generator: torch.Generator) -> None:
        """Initialise the codebook with the k-means centres of latents (b, c, h, w), b h w at least k."""
        centres = kmeans(self.flatten(latents), self.embedding.num_embeddings, generator)
        self.embedding.weight.copy_(centres)
        if self.ema_decay is not None:
            self.cluster_size.fill_(1)
            self.embed_sum.copy_(self.embedding.weight)

    @torch.no_grad()
    def ema_update(
        self, latents: Tensor, codes: Tensor, generator: torch.Generator | None = None, revive_below: float = 0.0
    ) -> int:
        """Move the codebook by one step of its exponential moving averages. Returns the number of revived codes.

        latents: (b, c, h, w) before quantisation. codes: (b, h, w), those chosen for them.
        revive_below: a code whose average number of uses per step is lower restarts at a random latent of this batch
            (Zeghidour et al. 2021, arXiv 2107.03312, section III-C).
        """
        assert self.ema_decay is not None, "ema_update() needs a codebook with ema_decay"
        vectors, flat = self.flatten(latents), codes.flatten()
        size = torch.bincount(flat, minlength=len(self.cluster_size)).to(vectors)
        total = torch.zeros_like(self.embed_sum).index_add_(0, flat, vectors)
        # VQ-VAE, eq. 6: N = decay N + (1 - decay) n, and eq. 7: m = decay m + (1 - decay) sum of z
        self.cluster_size.lerp_(size, 1 - self.ema_decay)
        self.embed_sum.lerp_(total, 1 - self.ema_decay)
        dead = self.cluster_size < revive_below
        revived = int(dead.sum())
        if revived:
            pick = torch.randint(len(vectors), (revived,), generator=generator).to(vectors.device)
            self.embed_sum[dead] = vectors[pick] * revive_below
            self.cluster_size[dead] = revive_below
        # Laplace smoothing keeps the vector of a rarely used code finite
        n, k = self.cluster_size.sum(), len(self.cluster_size)
        smoothed = (self.cluster_size + 1e-5) / (n + k * 1e-5) * n
        centres = self.embed_sum / smoothed.unsqueeze(1)  # VQ-VAE, eq. 8: e = m / N
        self.embedding.weight.copy_(F.normalize(centres, dim=1) if self.metric == "cosine" else centres)
        return revived

    @torch.no_grad()
    def revive(self, latents: Tensor, dead: Tensor, generator: torch.Generator) -> int:
        """Restart the codes where ``dead`` (k,) is true at random latents (b, c, h, w). Returns their number.

        For codebooks that are learned by gradients; :meth:`ema_update` does this for moving averages.
        """
        vectors, count = self.flatten(latents), int(dead.sum())
        if count:
            pick = torch.randint(len(vectors), (count,), generator=generator).to(vectors.device)
            self.embedding.weight[dead] = vectors[pick]
        return count


class GumbelQuantizer(VectorQuantizer):
    """Quantiser that chooses codes by a learned projection instead of by distance, with the Gumbel-softmax.

    Jang et al. 2017, arXiv 1611.01144; GumbelVQ in the reference implementation of VQGAN. The loss is
    kl_weight · KL(q ‖ uniform).

    temperature: 0 chooses the most probable code, so that the same image always has the same codes. Above 0, for
        training, codes are sampled with ``generator``, and the gradient is that of a softmax at this temperature;
        anneal it from 1 to 1/16 (Ramesh et al. 2021, arXiv 2102.12092, appendix A.2).
    """

    temperature: float = 0.0
    generator: torch.Generator | None = None

    def __init__(self, codebook_size: int, dim: int, *, kl_weight: float = 5e-4) -> None:
        super().__init__(codebook_size, dim)
        self.kl_weight = kl_weight
        self.proj = nn.Conv2d(dim, codebook_size, 1)

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantise latents (b, c, h, w)."""
        logits = self.proj(latents)  # (b, k, h, w)
        probabilities = weights = logits.softmax(1)
        if self.temperature:
            uniform = torch.rand(logits.shape, generator=self.generator).to(logits).clamp(1e-10, 1 - 1e-7)
            # Gumbel-softmax, eq. 2: softmax((logits + g) / temperature) with g = -log(-log(uniform))
            weights = ((logits - (-uniform.log()).log()) / self.temperature).softmax(1)
        codes = weights.argmax(1)
        mixed = torch.einsum("bkhw,kc->bchw", weights, self.codebook)
        k = self.embedding.num_embeddings
        # KL(q ‖ uniform) = sum of q log(q k)
        loss = self.kl_weight * (probabilities * (probabilities * k + 1e-10).log()).sum(1).mean()
        return QuantizerOutput(straight_through(mixed, self.codes_to_latents(codes)), codes, loss)


def codebook_usage(codes: Tensor, codebook_size: int) -> tuple[float, float]:
    """Return the fraction of the codebook that is used (0 to 1) and the perplexity (1 to codebook_size) of codes."""
    frequencies = torch.bincount(codes.flatten(), minlength=codebook_size).double() / max(codes.numel(), 1)
    used = frequencies[frequencies > 0]
    # perplexity: exp of the entropy
    return len(used) / codebook_size, float((-(used * used.log()).sum()).exp())
