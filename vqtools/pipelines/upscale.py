"""Enlarge a finished picture with an upscaling network of the user's: ESRGAN, SwinIR and others that spandrel supports.

Knows files of networks and pictures; nothing about painting. Only weights are read and no code is run: safetensors, or
a pickle through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError, shorten_error
from vqtools.core.job import finish
from vqtools.media.image import MAX_PIXELS, load_picture, to_picture, to_tensor
from vqtools.media.png_record import read_record
from vqtools.weights.model_file import file_sha256

_TILE_OVERLAP = 16  # pixels around a tile that the network sees and whose output is discarded


def load_upscaler(path: str | Path) -> Any:
    """Load an upscaler from its file, in fp32 and frozen.

    Raises UserError if the file holds no supported upscaler or more than weights, and if spandrel is not installed.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError:
        raise UserError(
            'upscaling needs the package spandrel; install it with: pip install "vqtools[upscale]"'
        ) from None
    state = _read_weights(Path(path))
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state)
    except UnsupportedModelError:
        raise UserError(
            f"{path} is not an upscaler that spandrel supports; expected ESRGAN, SwinIR, DAT or similar"
        ) from None
    except Exception as error:  # each architecture raises its own errors
        raise UserError(f"{path} cannot be loaded as an upscaler ({shorten_error(error)})") from None
    if not isinstance(descriptor, ImageModelDescriptor) or (descriptor.input_channels, descriptor.output_channels) != (
        3,
        3,
    ):
        raise UserError(f"{path} does not map RGB pictures to RGB pictures; expected an upscaler")
    descriptor.model.eval().requires_grad_(False)
    return descriptor


def _read_weights(path: Path) -> dict[str, Any]:
    """Read tensors by name from an untrusted file, without running code from it."""
    if not path.is_file():
        raise UserError(f"upscaler {str(path)!r} does not exist")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"upscaler {str(path)!r} is broken ({shorten_error(error)})") from None
    if suffix not in (".pth", ".pt", ".ckpt", ".bin"):
        raise UserError(f"upscaler {str(path)!r}: expected .safetensors, or .pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # pickle, zip and torch raise different errors
        raise UserError(
            f"upscaler {str(path)!r} is broken, or holds code beside its weights, which is never run; use a"
            " .safetensors file of it"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"upscaler {str(path)!r} does not hold weights by name")
    return dict(state)


class UpscaleJob:
    """A job that enlarges a picture tile by tile.

    upscaler: from :func:`load_upscaler`. tile: side of a tile in pixels; tiles overlap, and only their middles are
    used. record: of the picture, which the larger one keeps. Raises UserError if the result would have more than
    ``MAX_PIXELS`` pixels.
    """

    def __init__(
        self,
        picture: Image.Image,
        upscaler: Any,
        *,
        tile: int = 512,
        record: Mapping[str, Any] | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.machine = machine or choose_machine(precision="fp32")
        self.scale = int(upscaler.scale)
        width, height = picture.size
        if width * height * self.scale**2 > MAX_PIXELS:
            raise UserError(
                f"{width}x{height} enlarged {self.scale} times has more than {MAX_PIXELS // 10**6} million pixels;"
                " use a smaller picture"
            )
        self.upscaler = upscaler.to(self.machine.device)
        self._image = to_tensor(picture).add(1).div(2)
        self._out = torch.zeros(1, 3, height * self.scale, width * self.scale)
        self._tiles = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
        self.tile, self.position, self.total = tile, 0, len(self._tiles)
        self._record = dict(record or {})

    @classmethod
    def from_files(cls, picture: str | Path, model: str | Path, *, tile: int = 512) -> Self:
        """Create a job from the files of a picture and an upscaler, which the record will name."""
        image, upscaler = load_picture(picture), load_upscaler(model)
        record: dict[str, Any] = {}
        with contextlib.suppress(UserError):  # pictures without a record can be enlarged too
            record = read_record(picture)
        upscaled = {"model": Path(model).name, "sha256": file_sha256(Path(model)), "scale": int(upscaler.scale)}
        return cls(image, upscaler, tile=tile, record={**record, "upscaled": upscaled})

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Enlarge one tile."""
        top, left = self._tiles[self.position]
        height, width = self._image.shape[-2:]
        bottom, right = min(top + self.tile, height), min(left + self.tile, width)
        first, start = max(0, top - _TILE_OVERLAP), max(0, left - _TILE_OVERLAP)
        tile = self._image[..., first : min(height, bottom + _TILE_OVERLAP), start : min(width, right + _TILE_OVERLAP)]
        enlarged = self._enlarge(tile.to(self.machine.device)).cpu()
        if not bool(enlarged.isfinite().all()):
            raise UserError("the upscaler returned NaN; its file may be for another architecture")
        n = self.scale
        self._out[..., top * n : bottom * n, left * n : right * n] = enlarged[
            ..., (top - first) * n : (bottom - first) * n, (left - start) * n : (right - start) * n
        ]
        self.position += 1
        return {"tiles": float(self.position)}

    def _enlarge(self, image: Tensor) -> Tensor:
        """Enlarge an image (1, 3, h, w) in [0, 1] of any size; the edge is repeated where the network needs padding."""
        height, width = image.shape[-2:]
        right, bottom = self.upscaler.size_requirements.get_padding(width, height)
        padded = F.pad(image, (0, right, 0, bottom), mode="replicate") if right or bottom else image
        enlarged: Tensor = self.upscaler(padded)
        return enlarged[..., : height * self.scale, : width * self.scale]

    def preview(self) -> Image.Image:
        """The same as :meth:`picture`."""
        return self.picture()

    def picture(self) -> Image.Image:
        """The enlarged picture; black where tiles are still to be enlarged."""
        return to_picture(self._out.mul(2).sub(1).clamp(-1, 1))

    def record(self) -> dict[str, Any]:
        """The picture's own record, and under "upscaled" the upscaler's file name, SHA-256 and scale."""
        return dict(self._record)

    def state_dict(self) -> dict[str, Any]:
        """The number of tiles done and the enlarged pixels."""
        return {"position": self.position, "out": self._out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same picture, upscaler and tile size."""
        self.position = state["position"]
        self._out = state["out"].clone()


def upscale(picture: Image.Image, model: str | Path, *, tile: int = 512) -> Image.Image:
    """Return a picture enlarged by the upscaler in a file; ``tile`` is the side of a tile in pixels."""
    return finish(UpscaleJob(picture, load_upscaler(model), tile=tile)).picture()
