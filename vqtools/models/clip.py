"""CLIP: embeddings of images and texts in one space. A differentiable wrapper around models of open_clip.

Radford et al. 2021, arXiv 2103.00020. Works on tensors and texts; knows nothing about files, which `weights.model_file`
reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vqtools.models.attention import replace_self_attention


class CLIP(nn.Module):
    """A frozen open_clip model with the size, mean and standard deviation of its input images.

    tokenizer: converts texts to token ids (n, context).
    size: side of the input images in pixels.
    mean, std: of the three channels, for images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        *,
        name: str,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.name, self.size = model.eval().requires_grad_(False), tokenizer, name, size
        replace_self_attention(getattr(model, "visual", model))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed images (n, 3, size, size) in [0, 1] to unit vectors (n, d), differentiably."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return F.normalize(self.model.encode_image(normalised).float(), dim=-1)  # type: ignore[operator]

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Embed texts to unit vectors (n, d)."""
        tokens = self.tokenizer(texts).to(self.mean.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]

    @property
    def supports_word_embeddings(self) -> bool:
        """Whether :meth:`embed_words` works: whether the tokenizer's special tokens are known."""
        return hasattr(getattr(self.model, "text", self.model), "eos_id")

    @torch.no_grad()
    def embed_words(self, texts: list[str], count: int) -> Tensor:
        """Return the token embeddings (n, count, d) of the first word pieces of texts, zeros after the last.

        Only for models with :attr:`supports_word_embeddings`, whose texts have one special token at each end.
        """
        if not count:
            return self.mean.new_zeros(len(texts), 0, 0)
        tower: Any = getattr(self.model, "text", self.model)
        tokens = self.tokenizer(texts).to(self.mean.device)[:, 1 : count + 1]
        word = (tokens != tower.pad_id) & (tokens != tower.eos_id)
        embedded: Tensor = tower.token_embedding(tokens) * word.unsqueeze(-1)
        return embedded


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every frozen batch norm into the convolution before it, in place.

    This changes the output only by rounding, and takes 0.6 of the time for forward and backward passes on a CPU.
    """
    last: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and last is not None:
            setattr(module, last[0], fuse_conv_bn_eval(last[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm keeps the activation inside the norm
            last = None
        elif isinstance(child, nn.Conv2d):
            last = (name, child)
        else:
            last = None
            fold_batch_norms(child)
