"""Pictures to train on: folders, zips and tar shards in; batches of crops out, each by its step alone.

Knows files and pixels; nothing about networks. What lies in a picture file is hostile until it is decoded: nothing is
unpacked to disk, and a file that can't be read is skipped, named and counted.
"""

from __future__ import annotations

import math
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import PICTURE_SUFFIXES, from_uint8, load_picture

_LARGEST_FILE = 256 * 2**20  # bytes of one picture inside an archive
_LARGEST_SHARDS = 4 * 2**30  # bytes of compressed shards, which have to be held in memory
_LARGEST_CACHE = 2**30  # bytes of decoded pictures that are kept


class PictureSource(Protocol):
    """One picture that can be read when it is needed."""

    name: str

    def read(self) -> bytes: ...


class FolderSource:
    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.name = path, str(path.relative_to(folder))

    def read(self) -> bytes:
        return self.path.read_bytes()


class ZipSource:
    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self.archive, self.member, self.name = archive, member, member.filename

    def read(self) -> bytes:
        if self.member.file_size > _LARGEST_FILE:
            raise UserError(f"it unpacks to {self.member.file_size >> 20} MB; at most {_LARGEST_FILE >> 20} are read")
        return self.archive.read(self.member)


class TarSource:
    """A member of a tar by its place in the file, or the bytes themselves where the tar was compressed."""

    def __init__(self, name: str, path: Path, offset: int, size: int, content: bytes | None = None) -> None:
        self.name, self.path, self.offset, self.size, self.content = name, path, offset, size, content

    def read(self) -> bytes:
        if self.content is not None:
            return self.content
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find_pictures(path: Path) -> list[PictureSource]:
    """Every picture in a folder (in its folders too), a zip, a tar, or a folder of tar shards, in order of name."""
    if not path.exists():
        raise UserError(f"{str(path)!r} is not there; expected a folder or a zip of pictures")
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            found: list[PictureSource] = [FolderSource(p, path) for p in files if p.suffix.lower() in PICTURE_SUFFIXES]
            shards = [p for p in files if p.name.endswith((".tar", ".tar.gz", ".tgz"))]
            found = found or [source for shard in shards for source in _in_tar(shard)]
        elif zipfile.is_zipfile(path):
            found = list(_in_zip(path))
        elif tarfile.is_tarfile(path):
            found = list(_in_tar(path))
        else:
            raise UserError(f"{str(path)!r} is neither a folder, a zip nor a tar of pictures")
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"{str(path)!r} can't be read ({' '.join(str(error).split())[:80]})") from None
    if not found:
        raise UserError(
            f"{str(path)!r} holds no pictures; {', '.join(sorted(s[1:] for s in PICTURE_SUFFIXES))} are read"
        )
    return found


def _in_zip(path: Path) -> Iterator[PictureSource]:
    archive = zipfile.ZipFile(path)
    for member in sorted(archive.infolist(), key=lambda one: one.filename):
        if (
            not member.is_dir()
            and Path(member.filename).suffix.lower() in PICTURE_SUFFIXES
            and "__MACOSX" not in member.filename
        ):
            yield ZipSource(archive, member)


def _in_tar(path: Path) -> Iterator[PictureSource]:
    try:
        with tarfile.open(path, "r:") as plain:
            yield from (TarSource(one.name, path, one.offset_data, one.size) for one in plain if _is_picture(one))
        return
    except tarfile.ReadError:
        pass  # compressed: no way to jump into it later, so its pictures are held
    held = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if not _is_picture(member):
                continue
            held += member.size
            if held > _LARGEST_SHARDS:
                raise UserError(f"{str(path)!r} is compressed and too large to hold in memory; unpack it first")
            file = archive.extractfile(member)
            yield TarSource(member.name, path, member.offset_data, member.size, file.read() if file else b"")


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isfile() and Path(member.name).suffix.lower() in PICTURE_SUFFIXES and member.size <= _LARGEST_FILE


class ImageDataset:
    """Decoded pictures by number, shrunk so that the short side is at most ``short`` pixels, kept while memory allows.

    broken: names of the files that could not be read, with the reason.
    """

    def __init__(
        self, sources: Sequence[PictureSource], short: int, ground: tuple[int, int, int] = (255, 255, 255)
    ) -> None:
        self.sources, self.short, self.ground = sources, short, ground
        self.broken: dict[str, str] = {}
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.sources)

    def get(self, i: int) -> Image.Image | None:
        """Picture i, or None where its file is broken; the reason is then in ``broken``."""
        if i in self._kept:
            return Image.fromarray(self._kept[i])
        source = self.sources[i]
        if source.name in self.broken:
            return None
        try:
            picture = load_picture(source.read(), source.name, self.ground)
        except (UserError, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            self.broken[source.name] = " ".join(str(error).split())[:200]
            return None
        scale = self.short / min(picture.size)
        if scale < 1:
            size = tuple(max(self.short, round(side * scale)) for side in picture.size)
            picture = picture.resize(size, Image.Resampling.LANCZOS)  # type: ignore[arg-type]
        pixels = np.asarray(picture)
        if self._bytes + pixels.nbytes <= _LARGEST_CACHE:
            self._kept[i] = pixels
            self._bytes += pixels.nbytes
        return picture

    def next_readable(self, i: int) -> Image.Image:
        """Picture i, or the first one after it that can be read."""
        for j in range(len(self)):
            if picture := self.get((i + j) % len(self)):
                return picture
        raise UserError(f"none of the {len(self)} pictures can be read; the first: {next(iter(self.broken.values()))}")


def split_held_out(count: int, seed: int, share: float = 0.1, most: int = 64) -> tuple[list[int], list[int]]:
    """Numbers of the pictures to train on, and of those that are held out to measure by."""
    order = list(range(count))
    random.Random(f"{seed} split").shuffle(order)
    held = min(most, max(1, round(share * count))) if count > 1 else 0
    return sorted(order[held:]), sorted(order[:held])


def crop_square(picture: Image.Image, side: int, scale: float, x: float, y: float) -> Image.Image:
    """A square of ``side`` pixels out of the picture: its own side is ``scale`` of the short one, x and y in [0, 1]
    say where it lies between left and right, top and bottom."""
    short = min(picture.size)
    length = max(1.0, short * scale)
    left, top = x * (picture.width - length), y * (picture.height - length)
    box = (left, top, left + length, top + length)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=box)


class ImageBatches:
    """step -> this process's share of a batch, (b, 3, side, side) in [-1, 1].

    Every picture is shown once before any is shown again; order and crops depend on seed and step alone.
    smallest: the smallest crop, as a share of the short side; 1 for centred squares.
    """

    def __init__(
        self,
        pictures: ImageDataset,
        numbers: Sequence[int],
        batch_size: int,
        side: int,
        *,
        seed: int = 0,
        smallest: float = 0.7,
        flip: bool = True,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        if len(numbers) < batch_size:
            raise UserError(
                f"{len(numbers)} pictures to train on are fewer than a batch of {batch_size}; "
                f"add pictures, or lower the batch size"
            )
        self.pictures, self.numbers, self.batch_size, self.side, self.seed = pictures, numbers, batch_size, side, seed
        self.smallest, self.flip, self.rank, self.size = smallest, flip, rank, size
        self.number = epoch_order(numbers, seed)  # of the picture that is shown n-th
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._ahead: tuple[int, Future[Tensor]] | None = None

    def __call__(self, step: int) -> Tensor:
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead and ahead[0] == step else self.make(step)
        self._ahead = step + 1, self._worker.submit(self.make, step + 1)
        return batch

    def make(self, step: int) -> Tensor:
        rng = random.Random(f"{self.seed} batch {step}")
        out = []
        for k in range(self.batch_size):
            scale = math.exp(rng.uniform(math.log(self.smallest), 0))
            x, y, mirrored = rng.random(), rng.random(), self.flip and rng.random() < 0.5
            if k % self.size != self.rank:
                continue
            picture = crop_square(
                self.pictures.next_readable(self.number(step * self.batch_size + k)), self.side, scale, x, y
            )
            out.append(np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture))
        return to_images(out)


def epoch_order(numbers: Sequence[int], seed: int) -> Callable[[int], int]:
    """n -> the number that comes n-th: each once before any comes again, in a new order every time."""
    orders: dict[int, list[int]] = {}

    def at(n: int) -> int:
        epoch, place = divmod(n, len(numbers))
        if epoch not in orders:
            for old in [e for e in orders if e != epoch - 1]:
                del orders[old]
            orders[epoch] = list(numbers)
            random.Random(f"{seed} epoch {epoch}").shuffle(orders[epoch])
        return orders[epoch][place]

    return at


def centre_crops(pictures: ImageDataset, numbers: Sequence[int], side: int) -> Tensor:
    """Centred squares of some pictures, (n, 3, side, side) in [-1, 1]; broken ones are left out."""
    good = [picture for i in numbers if (picture := pictures.get(i))]
    if not good:
        return torch.zeros(0, 3, side, side)
    return to_images([np.asarray(crop_square(picture, side, 1.0, 0.5, 0.5)) for picture in good])


def to_images(pictures: list[np.ndarray]) -> Tensor:
    """Pixels (side, side, 3) of uint8, several -> (b, 3, side, side) of float32 in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.stack(pictures)))
