"""VQGAN: an autoencoder of images whose latents are quantised to a grid of codes.

Esser, Rombach, Ommer 2021, arXiv 2012.09841. Parameter names are those of the reference implementation, so that its
checkpoints need no renaming. Works on tensors; knows nothing about files, losses or text.

Shapes: b batch, H and W sides of the image, f downsampling factor, h = H/f and w = W/f, c dimensions of a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.models.attention import attend
from vqtools.models.norms import GroupNorm
from vqtools.models.quantizers import GumbelQuantizer, Metric, QuantizerOutput, VectorQuantizer


@dataclass(frozen=True)
class VQGANConfig:
    """The architecture of a VQGAN. The defaults are the public ImageNet model with f 16 and 1,024 codes."""

    channels: int = 128  # width at the highest resolution
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # one entry per level
    res_blocks: int = 2  # per level; the decoder has one more
    attn_resolutions: tuple[int, ...] = (16,)  # sides of the feature maps with attention, at the nominal resolution
    resolution: int = 256  # nominal: any multiple of f works
    z_channels: int = 256
    embed_dim: int = 256
    codebook_size: int = 1024
    patch: int = 1  # side of the patches of a space-to-depth stem, which makes small models fast on a CPU; 1 for none
    mid_attention: bool = True
    norm_groups: int = 32
    metric: Metric = "euclidean"
    beta: float = 0.25
    legacy: bool = True
    ema_decay: float | None = None
    quantizer: Literal["nearest", "gumbel"] = "nearest"
    image_channels: int = 3  # more for a label map: one per label

    @property
    def f(self) -> int:
        """Downsampling factor: pixels per code along each side."""
        return int(self.patch * 2 ** (len(self.channel_mult) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VQGANConfig:
        """Invert :meth:`to_dict`, also after JSON turned tuples into lists. Raises ValueError for an unknown field."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {unknown} in a VQGAN's config; known are {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def build_group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Return a group norm with the epsilon of the reference."""
    return GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with group norm and SiLU before each, and a residual connection."""

    def __init__(self, inp: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = build_group_norm(inp, groups)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.norm2 = build_group_norm(out, groups)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if inp != out:
            self.nin_shortcut = nn.Conv2d(inp, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, inp, h, w) to (b, out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Single-head self-attention among the positions of a feature map, with a residual connection."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = build_group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, channels, h, w)."""
        n = self.norm(x)
        q, k, v = (conv(n).flatten(2).transpose(1, 2).unsqueeze(1) for conv in (self.q, self.k, self.v))
        if q.shape[2] >= 4096:  # memory-efficient attention needs this; 64k positions would need a matrix of 17 GB
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        h = attend(q, k, v)  # (b, 1, h w, c)
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, channels, h, w) to (b, channels, h/2, w/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # right and bottom only, as in the reference


class Upsample(nn.Module):
    """Nearest-neighbour interpolation to twice the size, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, channels, h, w) to (b, channels, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ResolutionLevel(nn.Module):
    """The blocks of one resolution: ``block`` and ``attn`` alternately, then the resampling to the next one."""

    def __init__(self, widths: list[int], attention: bool, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(i, o, groups) for i, o in pairwise(widths))
        self.attn = nn.ModuleList(AttnBlock(o, groups) for o in widths[1:] if attention)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, widths[0], h, w) to the last width, and to the next resolution if there is one."""
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        for name in ("downsample", "upsample"):  # names of the reference; the last level has neither
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class MidBlock(nn.Module):
    """The blocks at the lowest resolution."""

    def __init__(self, channels: int, attention: bool, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        if attention:
            self.attn_1 = AttnBlock(channels, groups)
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (b, channels, h, w)."""
        x = self.block_1(x)
        if hasattr(self, "attn_1"):
            x = self.attn_1(x)
        return self.block_2(x)


class Encoder(nn.Module):
    """The convolutional encoder of a VQGAN, which halves the resolution between levels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        c, groups, self.patch = config, config.norm_groups, config.patch
        widths = [c.channels * m for m in c.channel_mult]
        self.conv_in = nn.Conv2d(c.image_channels * c.patch**2, c.channels, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (inp, out) in enumerate(zip([c.channels, *widths], widths, strict=False)):
            attention = c.resolution // c.patch // 2**i in c.attn_resolutions
            level = ResolutionLevel([inp] + [out] * c.res_blocks, attention, groups)
            if i < len(widths) - 1:
                level.downsample = Downsample(out)
            self.down.append(level)
        self.mid = MidBlock(widths[-1], c.mid_attention, groups)
        self.norm_out = build_group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], c.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images x (b, image_channels, H, W) to features (b, z_channels, h, w)."""
        h = self.conv_in(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """The convolutional decoder of a VQGAN, which doubles the resolution between levels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        c, groups, self.patch = config, config.norm_groups, config.patch
        widths = [c.channels * m for m in c.channel_mult]
        self.conv_in = nn.Conv2d(c.z_channels, widths[-1], 3, padding=1)
        self.mid = MidBlock(widths[-1], c.mid_attention, groups)
        self.up = nn.ModuleList()  # up[0] is the highest resolution and runs last, as in the reference
        for i, (out, inp) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
            attention = c.resolution // c.patch // 2**i in c.attn_resolutions
            level = ResolutionLevel([inp] + [out] * (c.res_blocks + 1), attention, groups)
            if i > 0:
                level.upsample = Upsample(out)
            self.up.append(level)
        self.norm_out = build_group_norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], c.image_channels * c.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Decode features z (b, z_channels, h, w) to images (b, image_channels, H, W)."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        x: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


def build_quantizer(config: VQGANConfig) -> VectorQuantizer:
    """Return the untrained quantiser that a config describes."""
    c = config
    if c.quantizer == "gumbel":
        return GumbelQuantizer(c.codebook_size, c.embed_dim)
    return VectorQuantizer(
        c.codebook_size, c.embed_dim, metric=c.metric, beta=c.beta, legacy=c.legacy, ema_decay=c.ema_decay
    )


class VQGAN(nn.Module):
    """Encoder, codebook and decoder. Fully convolutional: any size that is a multiple of ``f`` works."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = build_quantizer(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    @property
    def f(self) -> int:
        """Downsampling factor: pixels per code along each side."""
        return self.config.f

    @property
    def codebook(self) -> Tensor:
        """The vectors (codebook_size, c) of the codes, as the decoder gets them."""
        return self.quantize.codebook

    @property
    def last_layer(self) -> Tensor:
        """The weight for whose gradient the adaptive weight of the GAN loss is computed."""
        return self.decoder.conv_out.weight

    def encode_latents(self, image: Tensor) -> Tensor:
        """Encode images (b, 3, H, W) in [-1, 1] to latents (b, c, h, w) before quantisation.

        Raises ValueError unless H and W are multiples of f.
        """
        height, width = image.shape[-2:]
        if height % self.f or width % self.f:
            raise ValueError(f"image of {width}x{height} pixels: both sides must be multiples of {self.f}")
        return self.quant_conv(self.encoder(image))

    def encode(self, image: Tensor) -> Tensor:
        """Encode images (b, 3, H, W) in [-1, 1] to codes (b, h, w) of int64."""
        return self.quantize(self.encode_latents(image)).codes

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Look up the vectors (b, c, h, w) of codes (b, h, w)."""
        return self.quantize.codes_to_latents(codes)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode quantised latents (b, c, h, w) to images (b, 3, H, W), roughly in [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(latents))

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (b, h, w) to images (b, 3, H, W), roughly in [-1, 1], not clamped."""
        return self.decode_latents(self.codes_to_latents(codes))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, QuantizerOutput]:
        """Return the reconstruction of images (b, 3, H, W), their unquantised latents, and the quantiser output."""
        latents = self.encode_latents(image)
        with torch.autocast(
            latents.device.type, enabled=False
        ):  # in fp32, because nearly equal distances decide the code
            quantized = self.quantize(latents.float())
        return self.decode_latents(quantized.latents), latents, quantized
