"""A finished picture enlarged by a network of the user's: ESRGAN, SwinIR and the others that spandrel knows.

Knows files of networks and pictures; nothing about painting. Only weights are read, never code: safetensors, or a
pickle through torch's reader of weights alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError, shorten_error
from vqtools.media.image import load_picture, to_picture, to_tensor
from vqtools.media.png_record import read_record

_TILE_OVERLAP = 16  # pixels that a tile sees beyond its own
_MAX_OUTPUT_PIXELS = 178_000_000  # of the result, which is what media reads back


def load_upscaler(path: str | Path) -> Any:
    """An upscaler from its file, in fp32 and frozen; UserError where it is none, or more than weights.

    Without the optional package: UserError with the command that installs it.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError:
        raise UserError('upscaling needs the package spandrel: pip install "vqtools[upscale]"') from None
    state = _read_weights(Path(path))
    try:
        found = ModelLoader(device="cpu").load_from_state_dict(state)
    except UnsupportedModelError:
        raise UserError(
            f"{path} is no upscaler that spandrel knows; expected ESRGAN, SwinIR, DAT or the like"
        ) from None
    except Exception as error:  # each architecture complains in its own way
        raise UserError(f"{path} can't be made an upscaler ({shorten_error(error)})") from None
    if not isinstance(found, ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise UserError(f"{path} does not turn one colour picture into another; an upscaler is expected")
    found.model.eval().requires_grad_(False)
    return found


def _read_weights(path: Path) -> dict[str, Any]:
    """Tensors by name, from a file that may come from anywhere."""
    if not path.is_file():
        raise UserError(f"upscaler {str(path)!r} is not there")
    ending = path.suffix.lower()
    if ending == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"upscaler {str(path)!r} is broken ({shorten_error(error)})") from None
    if ending not in (".pth", ".pt", ".ckpt", ".bin"):
        raise UserError(f"upscaler {str(path)!r}: expected .safetensors, or .pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # pickle, zip and torch each have their own
        raise UserError(
            f"upscaler {str(path)!r} is broken, or holds code beside its weights, which is never run; take a"
            " .safetensors of it"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"upscaler {str(path)!r} holds no weights by name")
    return dict(state)


class UpscaleJob:
    """A picture enlarged tile by tile, as a job.

    record: of the picture, which the larger one keeps. tile: pixels along a tile's side; they overlap, and only
    their middles are used.
    """

    def __init__(
        self,
        picture: Image.Image,
        upscaler: Any,
        *,
        tile: int = 512,
        record: Mapping[str, Any] | None = None,
        name: str = "",
        machine: Machine | None = None,
    ) -> None:
        self.machine = machine or choose_machine(precision="fp32")
        self.scale = int(upscaler.scale)
        width, height = picture.size
        if width * height * self.scale**2 > _MAX_OUTPUT_PIXELS:
            raise UserError(
                f"{width}x{height} enlarged {self.scale} times is more than 178 million pixels; take a smaller picture"
            )
        self.upscaler = upscaler.to(self.machine.device)
        self._image = to_tensor(picture).add(1).div(2)
        self._out = torch.zeros(1, 3, height * self.scale, width * self.scale)
        self._tiles = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
        self.tile, self.position, self.total, self._name = tile, 0, len(self._tiles), name
        self._record = dict(record or {})

    @classmethod
    def of(cls, picture: str | Path, model: str | Path, *, tile: int = 512) -> Self:
        """From files."""
        loaded, upscaler = load_picture(picture), load_upscaler(model)
        record: dict[str, Any] = {}
        with contextlib.suppress(UserError):  # any picture may be enlarged
            record = read_record(picture)
        with open(model, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        job = cls(loaded, upscaler, tile=tile, record=record, name=Path(model).stem)
        job._record["upscaled"] = {"model": Path(model).name, "sha256": sha, "scale": job.scale}
        return job

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """Enlarge one tile."""
        top, left = self._tiles[self.position]
        height, width = self._image.shape[-2:]
        bottom, right = min(top + self.tile, height), min(left + self.tile, width)
        first, start = max(0, top - _TILE_OVERLAP), max(0, left - _TILE_OVERLAP)
        seen = self._image[..., first : min(height, bottom + _TILE_OVERLAP), start : min(width, right + _TILE_OVERLAP)]
        made = self._enlarged(seen.to(self.machine.device)).cpu()
        if not bool(made.isfinite().all()):
            raise UserError("the upscaler answered with no numbers (NaN); its file may be for another architecture")
        n = self.scale
        self._out[..., top * n : bottom * n, left * n : right * n] = made[
            ..., (top - first) * n : (bottom - first) * n, (left - start) * n : (right - start) * n
        ]
        self.position += 1
        return {"tiles": float(self.position)}

    def _enlarged(self, image: Tensor) -> Tensor:
        """A tile of any size: networks that want a multiple of something see its edge drawn out."""
        height, width = image.shape[-2:]
        wanted = self.upscaler.size_requirements
        more = wanted.get_padding(width, height)
        padded = F.pad(image, (0, more[0], 0, more[1]), mode="replicate") if any(more) else image
        made: Tensor = self.upscaler(padded)
        return made[..., : height * self.scale, : width * self.scale]

    def preview(self) -> Image.Image:
        return self.picture()

    def picture(self) -> Image.Image:
        """The enlarged picture; black where it is not made yet."""
        return to_picture(self._out.mul(2).sub(1).clamp(-1, 1))

    def record(self) -> dict[str, Any]:
        """The picture's own record, with what enlarged it."""
        return dict(self._record)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "out": self._out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self._out = state["out"].clone()


def upscale(picture: Image.Image, model: str | Path, *, tile: int = 512) -> Image.Image:
    """A picture enlarged by the upscaler in a file."""
    job = UpscaleJob(picture, load_upscaler(model), tile=tile)
    while job.position < job.total:
        job.step()
    return job.picture()
