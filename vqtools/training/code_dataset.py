"""Encode training pictures to codes, cache the codes on disk, and make batches of them with their conditions.

Knows pictures, a VQGAN and grids of codes; nothing about how a transformer works or is trained.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.core.state_file import load_state, save_state
from vqtools.models.gpt import GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.training.captioner import Captioner
from vqtools.training.image_dataset import ImageDataset, crop_square, epoch_order, to_images
from vqtools.training.random_masks import random_known_mask
from vqtools.training.transformer_stage import CodeBatch

_ENCODE_BATCH = 32  # squares that are encoded together


@dataclass(frozen=True)
class CropViews:
    """Which squares are cut from each picture: ``count`` of them, the first the largest in the centre.

    side: of a square in pixels. smallest: the smallest square as a fraction of the short side. flip: mirror every
        other square.
    """

    count: int
    side: int
    smallest: float = 1.0
    flip: bool = True
    seed: int = 0

    def cut(self, picture: Image.Image, name: str, view: int) -> Image.Image:
        """Cut one square; its place depends on seed, name and view, not on the picture's content."""
        if view == 0:
            return crop_square(picture, self.side, 1.0, 0.5, 0.5)
        rng = random.Random(f"{self.seed} {name} {view}")
        scale = math.exp(rng.uniform(math.log(self.smallest), 0))
        square = crop_square(picture, self.side, scale, rng.random(), rng.random())
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip and view % 2 else square


@dataclass(frozen=True)
class CodeTable:
    """Codes (n, views, h, w) of int32; ``indices`` are the pictures' (broken ones are left out)."""

    codes: Tensor
    indices: tuple[int, ...]


def encode_pictures(
    pictures: ImageDataset,
    indices: Sequence[int],
    views: CropViews,
    vqgan: VQGAN,
    sha256: str,
    folder: Path | None = None,
    say: Callable[[float], None] = lambda _fraction: None,
) -> CodeTable:
    """Encode some pictures to codes, or read the codes from ``folder`` if they are cached there.

    The cache is keyed by the files' content, the squares and the VQGAN's ``sha256``. say: called with the fraction
    done. UserError if no picture can be read.
    """
    path = None
    if folder is not None:
        path = folder / f"{_fingerprint(pictures, indices, views, sha256)}.safetensors"
        if (cached := _read_cached(path)) is not None:
            return cached
    readable, grids, squares = list[int](), list[Tensor](), list[np.ndarray]()

    def flush() -> None:
        if squares:
            with torch.no_grad():
                images = to_images(squares).to(vqgan.last_layer.device)
                grids.append(vqgan.encode(images).to(torch.int32).cpu())
            squares.clear()

    for done, index in enumerate(indices):
        picture = pictures.get(index)
        if picture is None:
            continue
        readable.append(index)
        for view in range(views.count):
            squares.append(np.asarray(views.cut(picture, _stem(pictures.sources[index].name), view)))
            if len(squares) == _ENCODE_BATCH:
                flush()
        say((done + 1) / len(indices))
    flush()
    if not readable:
        reason = next(iter(pictures.broken.values()), "")
        raise UserError(f"none of the {len(indices)} pictures can be read: {reason}")
    codes = torch.cat(grids)
    table = CodeTable(codes.view(len(readable), views.count, *codes.shape[1:]), tuple(readable))
    if path is not None:
        save_state(path, {"codes": table.codes, "numbers": list(table.indices)})
    return table


def _read_cached(path: Path) -> CodeTable | None:
    """A cached table; None if there is none, or if it is broken, which is then deleted."""
    if not path.is_file():
        return None
    try:
        state = load_state(path)
        return CodeTable(state["codes"], tuple(state["numbers"]))
    except UserError:
        path.unlink(missing_ok=True)
        return None


def _fingerprint(pictures: ImageDataset, indices: Sequence[int], views: CropViews, sha256: str) -> str:
    """A hash of everything that the codes depend on."""
    digest = hashlib.sha256()
    about = [sha256, views.count, views.side, views.smallest, views.flip, views.seed, pictures.short, pictures.ground]
    digest.update(json.dumps([about, list(indices)]).encode())
    for index in indices:
        source = pictures.sources[index]
        try:
            content = hashlib.sha256(source.read()).digest()
        except Exception as error:  # a broken archive is reported when its picture is decoded
            content = type(error).__name__.encode()
        digest.update(_stem(source.name).encode() + b"\0" + content)
    return digest.hexdigest()[:32]


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


class CodeBatches:
    """Maps a step to its batch for all processes, which depends on seed and step alone.

    Every picture is used once before any is used again.

    labels: a class for each row of the table. captions: any number for each row; ``captioner`` embeds them.
    others: another picture's codes for each row and view, (n, views, h, w).
    """

    def __init__(
        self,
        table: CodeTable,
        config: GPTConfig,
        batch_size: int,
        *,
        seed: int = 0,
        labels: Sequence[int] = (),
        captions: Sequence[Sequence[str]] = (),
        captioner: Captioner | None = None,
        others: Tensor | None = None,
    ) -> None:
        if len(table.indices) < batch_size:
            raise UserError(
                f"{len(table.indices)} pictures to train on are fewer than a batch of {batch_size}; "
                "add pictures, or lower the batch size"
            )
        self.table, self.config, self.batch_size, self.seed = table, config, batch_size, seed
        self.labels, self.captions, self.captioner, self.others = labels, captions, captioner, others
        self.order = epoch_order(range(len(table.indices)), seed)

    def __call__(self, step: int) -> CodeBatch:
        """Return the batch of a step; the same step always gives the same batch."""
        rng = random.Random(f"{self.seed} codes {step}")
        rows = [self.order(step * self.batch_size + k) for k in range(self.batch_size)]
        views = [rng.randrange(self.table.codes.shape[1]) for _ in rows]
        return self.build(rows, views, rng)

    def build(
        self, rows: Sequence[int], views: Sequence[int], rng: random.Random, known: Tensor | None = None
    ) -> CodeBatch:
        """A batch of chosen rows and views. known: (h, w) the known cells of every picture, instead of random holes."""
        codes = self.table.codes[rows, views].long()
        caption = None
        if self.captioner is not None:
            caption = self.captioner([rng.choice(self.captions[row]) if self.captions[row] else "" for row in rows])
        label = torch.tensor([self.labels[row] for row in rows]) if self.config.classes else None
        return CodeBatch(codes.flatten(1), self._condition(codes, rows, views, rng, known), label, caption)

    def _condition(
        self, codes: Tensor, rows: Sequence[int], views: Sequence[int], rng: random.Random, known: Tensor | None
    ) -> Tensor | None:
        config = self.config
        if config.mask_code >= 0:
            if known is None:
                kept = torch.stack([random_known_mask(rng, config.grid) for _ in rows])
            else:
                kept = known.expand(len(rows), -1, -1)
            return torch.where(kept, codes, config.mask_code).flatten(1)
        if self.others is not None:
            return self.others[rows, views].long().flatten(1)
        return torch.zeros(len(rows), 1, dtype=torch.int64) if config.prefix_codes else None

    def evaluation_batches(self, *, drawn_holes: bool = False, most: int = 64) -> list[CodeBatch]:
        """Every picture once, in its first view, for measurements: the same batches each time.

        drawn_holes: whether a transformer that fills holes gets random holes; else no cell is known. most: pictures
            in a batch.
        """
        blank = None if drawn_holes else torch.zeros(self.config.grid, self.config.grid, dtype=torch.bool)
        rows = list(range(len(self.table.indices)))
        rng = random.Random(f"{self.seed} measured")
        parts = [rows[start : start + most] for start in range(0, len(rows), most)]
        return [self.build(part, [0] * len(part), rng, blank) for part in parts]
