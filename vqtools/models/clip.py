"""CLIP: how well does a picture fit a text? A thin layer over open_clip that gradients pass through.

Knows tensors and texts; nothing about files (see weights/files.py).
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
    """An open_clip model with its own size, mean and spread; frozen.

    tokenizer: texts -> token ids (n, context); size: side in pixels of the pictures that it takes.
    """

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

    mean: Tensor
    std: Tensor

    def embed_image(self, images: Tensor) -> Tensor:
        """Images (n, 3, size, size) in [0, 1] -> unit embeddings (n, d); gradients flow to the images."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return F.normalize(self.model.encode_image(normalised).float(), dim=-1)  # type: ignore[operator]

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Texts -> unit embeddings (n, d)."""
        tokens = self.tokenizer(texts).to(self.mean.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]

    @property
    def supports_word_embeddings(self) -> bool:
        """Whether :meth:`embed_words` can tell the words of a text from what stands around them."""
        return hasattr(getattr(self.model, "text", self.model), "eos_id")

    @torch.no_grad()
    def embed_words(self, texts: list[str], count: int) -> Tensor:
        """Texts -> the embeddings (n, count, d) of their first word pieces, zeros after the last.

        For CLIPs whose tokens stand between one first and one last special token, as our own.
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

    The same function up to rounding; forward and backward take 0.6 of the time on a CPU.
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
