"""Find the classes and captions of training pictures, by the names of folders and of text files.

Knows files; nothing about networks. Texts are untrusted: large ones are skipped, broken ones give no caption.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqtools.training.image_dataset import PictureSource

_MAX_TEXT_BYTES = 2**16  # of one caption's file
_TEXT_SUFFIXES = {".txt", ".json"}


def find_captions(path: Path, sources: Sequence[PictureSource]) -> list[list[str]]:
    """The captions of each picture: the lines of a .txt of the same name, or "caption" and "text" of such a .json.

    The files lie beside the pictures or in the same archives, as in webdataset. A picture without has an empty list.
    """
    stems = {source.name.rpartition(".")[0] for source in sources}
    captions: dict[str, list[str]] = {}
    for stem, suffix, content in _read_texts(path):
        if stem in stems and (lines := _parse_captions(suffix, content)):
            captions.setdefault(stem, []).extend(lines)
    return [captions.get(source.name.rpartition(".")[0], []) for source in sources]


def _read_texts(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Stem, suffix and content of each small text in a folder, a zip or tars."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        for file in files:
            if file.suffix in _TEXT_SUFFIXES and file.stat().st_size <= _MAX_TEXT_BYTES:
                yield str(file.relative_to(path).with_suffix("")), file.suffix, file.read_bytes()
        shards = [p for p in files if p.name.endswith((".tar", ".tar.gz", ".tgz"))]
    elif zipfile.is_zipfile(path):
        shards = []
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if Path(info.filename).suffix in _TEXT_SUFFIXES and info.file_size <= _MAX_TEXT_BYTES:
                    yield info.filename.rpartition(".")[0], Path(info.filename).suffix, archive.read(info)
    else:
        shards = [path]
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                small = member.isfile() and member.size <= _MAX_TEXT_BYTES
                if small and Path(member.name).suffix in _TEXT_SUFFIXES and (content := tar.extractfile(member)):
                    yield member.name.rpartition(".")[0], Path(member.name).suffix, content.read()


def _parse_captions(suffix: str, content: bytes) -> list[str]:
    text = content.decode("utf-8", "replace")
    if suffix == ".json":
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return []
        texts = [fields[key] for key in ("caption", "text") if key in fields] if isinstance(fields, dict) else []
        text = "\n".join(value for value in texts if isinstance(value, str))
    return [line for line in (" ".join(line.split())[:500] for line in text.splitlines()) if line]


def class_of(source: PictureSource) -> str:
    """The class of a picture: the folder it lies in, "" if it lies in none."""
    return source.name.replace("\\", "/").rpartition("/")[0]


def class_names(sources: Sequence[PictureSource]) -> list[str]:
    """The sorted classes of some pictures; none if a picture has no class, or if all have the same."""
    names = {class_of(source) for source in sources}
    return [] if "" in names or len(names) < 2 else sorted(names)
