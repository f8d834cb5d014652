"""Pictures as codes to learn from: encoded once and kept on disk, dealt out in batches, with holes where asked.

Knows pictures, a VQGAN and grids of codes; nothing about transformers' insides or how a step is made.
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

_ENCODE_BATCH = 32  # pictures that are encoded at once


@dataclass(frozen=True)
class CropViews:
    """Which squares are cut out of each picture: ``count`` of them, the first whole and upright.

    side: pixels of a square. smallest: the smallest square, as a share of the short side. flip: mirror every other one.
    """

    count: int
    side: int
    smallest: float = 1.0
    flip: bool = True
    seed: int = 0

    def cut(self, picture: Image.Image, name: str, view: int) -> Image.Image:
        """One square; the same place for pictures of the same name, whatever they hold."""
        if view == 0:
            return crop_square(picture, self.side, 1.0, 0.5, 0.5)
        rng = random.Random(f"{self.seed} {name} {view}")
        scale = math.exp(rng.uniform(math.log(self.smallest), 0))
        square = crop_square(picture, self.side, scale, rng.random(), rng.random())
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip and view % 2 else square


@dataclass(frozen=True)
class CodeTable:
    """Codes (n, views, h, w) of int32; ``numbers`` says which pictures they are: broken ones are left out."""

    codes: Tensor
    numbers: tuple[int, ...]


def encode_pictures(
    pictures: ImageDataset, numbers: Sequence[int], views: CropViews, vqgan: VQGAN, sha256: str, folder: Path | None = None,
    say: Callable[[float], None] = lambda share: None,
) -> CodeTable:  # fmt: skip
    """The codes of some pictures; from ``folder`` where they lie there already, and put there where they don't.

    They are found again by what they are made of: the files' bytes, the squares, and the VQGAN's ``sha256``.
    """
    path = None
    if folder is not None:
        path = folder / f"{_fingerprint(pictures, numbers, views, sha256)}.safetensors"
        if path.is_file():
            try:
                found = load_state(path)
                return CodeTable(found["codes"], tuple(found["numbers"]))
            except UserError:
                path.unlink(missing_ok=True)  # broken: made again
    good, grids, squares = list[int](), list[Tensor](), list[np.ndarray]()

    def flush() -> None:
        if squares:
            with torch.no_grad():
                images = to_images(squares).to(vqgan.last_layer.device)
                grids.append(vqgan.encode(images).to(torch.int32).cpu())
            squares.clear()

    for done, number in enumerate(numbers):
        picture = pictures.get(number)
        if picture is None:
            continue
        good.append(number)
        for view in range(views.count):
            squares.append(np.asarray(views.cut(picture, _stem(pictures.sources[number].name), view)))
            if len(squares) == _ENCODE_BATCH:
                flush()
        say((done + 1) / len(numbers))
    flush()
    if not good:
        raise UserError(f"none of the {len(numbers)} pictures can be read: {next(iter(pictures.broken.values()), '')}")
    codes = torch.cat(grids)
    table = CodeTable(codes.view(len(good), views.count, *codes.shape[1:]), tuple(good))
    if path is not None:
        save_state(path, {"codes": table.codes, "numbers": list(table.numbers)})
    return table


def _fingerprint(pictures: ImageDataset, numbers: Sequence[int], views: CropViews, sha256: str) -> str:
    """A name for codes, by all that they depend on."""
    digest = hashlib.sha256()
    about = [sha256, views.count, views.side, views.smallest, views.flip, views.seed, pictures.short, pictures.ground]
    digest.update(json.dumps([about, list(numbers)]).encode())
    for number in numbers:
        source = pictures.sources[number]
        try:
            content = hashlib.sha256(source.read()).digest()
        except Exception as error:  # a broken archive says so when its picture is decoded
            content = type(error).__name__.encode()
        digest.update(_stem(source.name).encode() + b"\0" + content)
    return digest.hexdigest()[:32]


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


class CodeBatches:
    """step -> the whole batch of a step, by seed and step alone; every picture comes once before any comes again.

    labels: a class for each row of the table. captions: one or more for each row, and ``captioner`` reads them.
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
        if len(table.numbers) < batch_size:
            raise UserError(
                f"{len(table.numbers)} pictures to train on are fewer than a batch of {batch_size}; "
                "add pictures, or lower the batch size"
            )
        self.table, self.config, self.batch_size, self.seed = table, config, batch_size, seed
        self.labels, self.captions, self.captioner, self.others = labels, captions, captioner, others
        self.order = epoch_order(range(len(table.numbers)), seed)

    def __call__(self, step: int) -> CodeBatch:
        rng = random.Random(f"{self.seed} codes {step}")
        rows = [self.order(step * self.batch_size + k) for k in range(self.batch_size)]
        views = [rng.randrange(self.table.codes.shape[1]) for _ in rows]
        return self.made(rows, views, rng)

    def made(
        self, rows: Sequence[int], views: Sequence[int], rng: random.Random, known: Tensor | None = None
    ) -> CodeBatch:
        """A batch of chosen pictures and views. known (h, w): what is known of every one, instead of drawn holes."""
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

    def all(self, *, drawn_holes: bool = False, most: int = 64) -> list[CodeBatch]:
        """Every picture once, its first view, to measure by: the same batches each time.

        Of a transformer for holes nothing is known, as for a picture from nothing; or holes are drawn.
        """
        blank = None if drawn_holes else torch.zeros(self.config.grid, self.config.grid, dtype=torch.bool)
        rows = list(range(len(self.table.numbers)))
        rng = random.Random(f"{self.seed} measured")
        parts = [rows[start : start + most] for start in range(0, len(rows), most)]
        return [self.made(part, [0] * len(part), rng, blank) for part in parts]
