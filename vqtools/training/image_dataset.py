"""Read training pictures from folders, zips and tar shards, and make batches of random crops.

A batch depends on its step alone. Knows files and pixels; nothing about networks. Picture files are untrusted:
nothing is unpacked to disk, and a file that cannot be read is skipped, with its name and the reason kept.
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
from PIL import Image, ImageColor
from torch import Tensor

from vqtools.core.errors import UserError, shorten
from vqtools.media.image import PICTURE_SUFFIXES, from_uint8, load_picture

_MAX_FILE_BYTES = 256 * 2**20  # of one picture inside an archive
_MAX_COMPRESSED_BYTES = 4 * 2**30  # of pictures in a compressed tar, which are held in memory
_MAX_CACHE_BYTES = 2**30  # of decoded pictures that are kept


class PictureSource(Protocol):
    """A picture file that is read when it is needed; ``name`` is its path in the folder or archive."""

    name: str

    def read(self) -> bytes:
        """The file's content."""


class FolderSource:
    """A picture file in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.name = path, str(path.relative_to(folder))

    def read(self) -> bytes:
        """The file's content."""
        return self.path.read_bytes()


class ZipSource:
    """A member of a zip."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self.archive, self.member, self.name = archive, member, member.filename

    def read(self) -> bytes:
        """The member's content. UserError if it is too large."""
        if self.member.file_size > _MAX_FILE_BYTES:
            raise UserError(f"it unpacks to {self.member.file_size >> 20} MB; at most {_MAX_FILE_BYTES >> 20} are read")
        return self.archive.read(self.member)


class TarSource:
    """A member of a tar, as its offset in the file, or its content if the tar is compressed."""

    def __init__(self, name: str, path: Path, offset: int, size: int, content: bytes | None = None) -> None:
        self.name, self.path, self.offset, self.size, self.content = name, path, offset, size, content

    def read(self) -> bytes:
        """The member's content."""
        if self.content is not None:
            return self.content
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find_pictures(path: Path) -> list[PictureSource]:
    """Find the pictures in a folder and its subfolders, a zip, a tar or a folder of tar shards, sorted by name.

    Tar shards in a folder count only if it has no picture files. UserError if there are no pictures.
    """
    if not path.exists():
        raise UserError(f"{str(path)!r} does not exist; expected a folder, a zip or a tar of pictures")
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            sources: list[PictureSource] = [
                FolderSource(p, path) for p in files if p.suffix.lower() in PICTURE_SUFFIXES
            ]
            shards = [p for p in files if p.name.endswith((".tar", ".tar.gz", ".tgz"))]
            sources = sources or [source for shard in shards for source in _in_tar(shard)]
        elif zipfile.is_zipfile(path):
            sources = list(_in_zip(path))
        elif tarfile.is_tarfile(path):
            sources = list(_in_tar(path))
        else:
            raise UserError(f"{str(path)!r} is neither a folder, a zip nor a tar of pictures")
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({' '.join(str(error).split())[:80]})") from None
    if not sources:
        raise UserError(
            f"{str(path)!r} holds no pictures; {', '.join(sorted(s[1:] for s in PICTURE_SUFFIXES))} are read"
        )
    return sources


def _in_zip(path: Path) -> Iterator[PictureSource]:
    archive = zipfile.ZipFile(path)
    for member in sorted(archive.infolist(), key=lambda info: info.filename):
        if (
            not member.is_dir()
            and Path(member.filename).suffix.lower() in PICTURE_SUFFIXES
            and "__MACOSX" not in member.filename
        ):
            yield ZipSource(archive, member)


def _in_tar(path: Path) -> Iterator[PictureSource]:
    try:
        with tarfile.open(path, "r:") as plain:
            yield from (TarSource(info.name, path, info.offset_data, info.size) for info in plain if _is_picture(info))
        return
    except tarfile.ReadError:
        pass  # compressed: no seeking in it later, so its pictures are held in memory
    held_bytes = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if not _is_picture(member):
                continue
            held_bytes += member.size
            if held_bytes > _MAX_COMPRESSED_BYTES:
                raise UserError(f"{str(path)!r} is compressed and too large to hold in memory; unpack it first")
            file = archive.extractfile(member)
            yield TarSource(member.name, path, member.offset_data, member.size, file.read() if file else b"")


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isfile() and Path(member.name).suffix.lower() in PICTURE_SUFFIXES and member.size <= _MAX_FILE_BYTES


class ImageDataset:
    """Decoded pictures by index, shrunk to a short side of at most ``short`` pixels, cached while memory allows.

    ground: RGB colour behind transparent pictures. broken: names of files that could not be read -> the reason.
    """

    def __init__(
        self, sources: Sequence[PictureSource], short: int, ground: tuple[int, int, int] = (255, 255, 255)
    ) -> None:
        self.sources, self.short, self.ground = sources, short, ground
        self.broken: dict[str, str] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.sources)

    def get(self, i: int) -> Image.Image | None:
        """Picture i, or None if its file is broken; the reason is then in ``broken``."""
        if i in self._cache:
            return Image.fromarray(self._cache[i])
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
        if self._cached_bytes + pixels.nbytes <= _MAX_CACHE_BYTES:
            self._cache[i] = pixels
            self._cached_bytes += pixels.nbytes
        return picture

    def next_readable(self, i: int) -> Image.Image:
        """Picture i, or the first after it that can be read. UserError if none can."""
        for j in range(len(self)):
            if picture := self.get((i + j) % len(self)):
                return picture
        raise UserError(f"none of the {len(self)} pictures can be read; the first: {next(iter(self.broken.values()))}")


def open_dataset(path: str | Path, side: int, smallest_crop: float, ground: str) -> ImageDataset:
    """The pictures of a folder or archive, as large as crops of ``side`` pixels need them.

    smallest_crop: fraction of the short side. ground: the colour behind transparent pictures, a name or #rrggbb.
    UserError if it is no colour.
    """
    try:
        colour = ImageColor.getrgb(ground)[:3]
    except ValueError:
        raise UserError(f"ground {shorten(ground)} is not a colour; use a name or #rrggbb") from None
    return ImageDataset(find_pictures(Path(path)), math.ceil(side / smallest_crop), colour)


def split_held_out(count: int, seed: int, fraction: float = 0.1, most: int = 64) -> tuple[list[int], list[int]]:
    """Split the indices of ``count`` pictures into those to train on and those held out for measurements.

    Held out is the given fraction, at least one and at most ``most``; none of a single picture.
    """
    order = list(range(count))
    random.Random(f"{seed} split").shuffle(order)
    held = min(most, max(1, round(fraction * count))) if count > 1 else 0
    return sorted(order[held:]), sorted(order[:held])


def crop_square(picture: Image.Image, side: int, scale: float, x: float, y: float) -> Image.Image:
    """Cut a square and resize it to ``side`` pixels.

    scale: its side as a fraction of the picture's short side. x, y: its place in [0, 1], from left and from top.
    """
    short = min(picture.size)
    length = max(1.0, short * scale)
    left, top = x * (picture.width - length), y * (picture.height - length)
    box = (left, top, left + length, top + length)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=box)


class ImageBatches:
    """Maps a step to this process's shard of its batch, (b, 3, side, side) in [-1, 1].

    Every picture is used once before any is used again; order and crops depend on seed and step alone. The next
    batch is prepared in a thread.

    indices: of the pictures to use. smallest: the smallest crop as a fraction of the short side; 1 for the largest
        squares. rank, size: this process and the number of processes.
    """

    def __init__(
        self,
        pictures: ImageDataset,
        indices: Sequence[int],
        batch_size: int,
        side: int,
        *,
        seed: int = 0,
        smallest: float = 0.7,
        flip: bool = True,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        if len(indices) < batch_size:
            raise UserError(
                f"{len(indices)} pictures to train on are fewer than a batch of {batch_size}; "
                f"add pictures, or lower the batch size"
            )
        self.pictures, self.batch_size, self.side, self.seed = pictures, batch_size, side, seed
        self.smallest, self.flip, self.rank, self.size = smallest, flip, rank, size
        self.picture_at = epoch_order(indices, seed)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._ahead: tuple[int, Future[Tensor]] | None = None

    def __call__(self, step: int) -> Tensor:
        """Return the batch of a step, and start to read the next one in a thread."""
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead and ahead[0] == step else self.build(step)
        self._ahead = step + 1, self._worker.submit(self.build, step + 1)
        return batch

    def build(self, step: int) -> Tensor:
        """The batch of a step, (b, 3, side, side) in [-1, 1]."""
        rng = random.Random(f"{self.seed} batch {step}")
        crops = []
        for k in range(self.batch_size):
            scale = math.exp(rng.uniform(math.log(self.smallest), 0))
            x, y, mirrored = rng.random(), rng.random(), self.flip and rng.random() < 0.5
            if k % self.size != self.rank:
                continue
            picture = crop_square(
                self.pictures.next_readable(self.picture_at(step * self.batch_size + k)), self.side, scale, x, y
            )
            crops.append(np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture))
        return to_images(crops)


def epoch_order(indices: Sequence[int], seed: int) -> Callable[[int], int]:
    """A function from n to the index that is used n-th: each once per epoch, in a new random order every epoch."""
    orders: dict[int, list[int]] = {}

    def at(n: int) -> int:
        epoch, position = divmod(n, len(indices))
        if epoch not in orders:
            for old in [e for e in orders if e != epoch - 1]:
                del orders[old]
            orders[epoch] = list(indices)
            random.Random(f"{seed} epoch {epoch}").shuffle(orders[epoch])
        return orders[epoch][position]

    return at


def centre_crops(pictures: ImageDataset, indices: Sequence[int], side: int) -> Tensor:
    """Centred squares of some pictures, (n, 3, side, side) in [-1, 1]; broken pictures are left out."""
    good = [picture for i in indices if (picture := pictures.get(i))]
    if not good:
        return torch.zeros(0, 3, side, side)
    return to_images([np.asarray(crop_square(picture, side, 1.0, 0.5, 0.5)) for picture in good])


def to_images(pictures: list[np.ndarray]) -> Tensor:
    """Stack uint8 pixels (H, W, 3) to images (b, 3, H, W) of float32 in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.stack(pictures)))
