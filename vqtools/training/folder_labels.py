"""TODO: what this module is.

Split from vqtools.training.data, vqtools.workshop_transformer.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqtools.training.image_dataset import PictureSource

_LARGEST_TEXT = 2**16  # bytes of one caption's file


_TEXT_SUFFIXES = {".txt", ".json"}


def find_captions(path: Path, sources: Sequence[PictureSource]) -> list[list[str]]:
    """What is written of each picture: the lines of a .txt of its name, or "caption" or "text" in such a .json.

    They lie beside the pictures, or are members of the same archives as webdataset has them; none is an empty list.
    """
    wanted = {source.name.rpartition(".")[0] for source in sources}
    found: dict[str, list[str]] = {}
    for stem, kind, content in _texts(path):
        if stem in wanted and (lines := _parse_captions(kind, content)):
            found.setdefault(stem, []).extend(lines)
    return [found.get(source.name.rpartition(".")[0], []) for source in sources]


def _texts(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Stem, kind and content of each small text in a folder, a zip or tars."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        for file in files:
            if file.suffix in _TEXT_SUFFIXES and file.stat().st_size <= _LARGEST_TEXT:
                yield str(file.relative_to(path).with_suffix("")), file.suffix, file.read_bytes()
        shards = [p for p in files if p.name.endswith((".tar", ".tar.gz", ".tgz"))]
    elif zipfile.is_zipfile(path):
        shards = []
        with zipfile.ZipFile(path) as archive:
            for one in archive.infolist():
                if Path(one.filename).suffix in _TEXT_SUFFIXES and one.file_size <= _LARGEST_TEXT:
                    yield one.filename.rpartition(".")[0], Path(one.filename).suffix, archive.read(one)
    else:
        shards = [path]
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                small = member.isfile() and member.size <= _LARGEST_TEXT
                if small and Path(member.name).suffix in _TEXT_SUFFIXES and (content := tar.extractfile(member)):
                    yield member.name.rpartition(".")[0], Path(member.name).suffix, content.read()


def _parse_captions(kind: str, content: bytes) -> list[str]:
    text = content.decode("utf-8", "replace")
    if kind == ".json":
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return []
        texts = [told[key] for key in ("caption", "text") if key in told] if isinstance(told, dict) else []
        text = "\n".join(one for one in texts if isinstance(one, str))
    return [line for line in (" ".join(line.split())[:500] for line in text.splitlines()) if line]


def class_of(source: PictureSource) -> str:
    """The folder that a picture lies in, "" for one that lies in none."""
    return source.name.replace("\\", "/").rpartition("/")[0]


def class_names(sources: Sequence[PictureSource]) -> list[str]:
    """The classes of some pictures, where all of them have one."""
    names = {class_of(source) for source in sources}
    return [] if "" in names or len(names) < 2 else sorted(names)
