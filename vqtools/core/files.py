"""Files that are there whole or not at all, and work that one process does at a time. Knows paths alone."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqtools.core.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file takes its place, safely on the disk, if all goes well.

    A crash or an error in between leaves what was there before. The folder is made where it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether ``path``, a file for nothing else, is locked for us for the time, and nobody else holds it.

    The system takes the lock back from a process that was killed. True where the disk knows no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)  # taken by one thread, it may be given back by another
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):  # a network's disk: better unlocked than not at all
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, its line ends as they are."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8", newline="")


def claim_free_path(temporary: Path, path: Path) -> Path:
    """Give the finished file the first free name of path, path-2, path-3, … without ever replacing one."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.link(temporary, target)
            return target
        except FileExistsError:
            number += 1
        except OSError:  # a disk without hard links: reserve the name, then move onto it
            with contextlib.suppress(FileExistsError):
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.replace(temporary, target)
                return target
            number += 1


def check_writable(folder: str | Path) -> None:
    """UserError unless a file can be written in the folder, or in the nearest one above it that exists."""
    folder = Path(folder)
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"folder {str(folder)!r} cannot be made: {str(place)!r} is a file; choose another with --out")
    probe = place / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(probe, "xb") as file:
            file.write(b"vqtools")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"folder {str(folder)!r} cannot be written ({reason}); choose another with --out") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
