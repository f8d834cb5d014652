"""Writing files safely: atomic writes, free names, locks between processes.

Knows paths; nothing about what the files contain.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vqtools.core.errors import UserError


@contextmanager
def temporary_beside(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield an unused hidden name in the folder of ``path``, and remove the file of that name at the end.

    The folder is created if it does not exist. suffix: for programs that infer the format from the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until the content of a file is on the disk, so that a rename after it survives a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def atomic_write(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a temporary name to write to; the file replaces ``path`` when the block ends without an error.

    After a crash or an error the old file is still there, whole. See :func:`temporary_beside` for ``suffix``.
    """
    with temporary_beside(path, suffix) as temporary:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)


def write_new(path: Path, write: Callable[[Path], object]) -> Path:
    """Call ``write`` with a temporary name, then give the file the first free name of path, path-2, path-3 and so on.

    Returns the name taken. An existing file is never replaced.
    """
    with temporary_beside(path) as temporary:
        write(temporary)
        flush_to_disk(temporary)
        return claim_free_path(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 atomically, without converting its line ends."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8", newline="")


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file for the time of the block, if no other process has locked it. Yields whether this succeeded.

    ``path`` serves as a lock only. The operating system releases the lock of a process that was killed. On a file
    system without locks nothing is locked, and True is yielded.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)  # another thread may release it
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):  # a network file system: working without a lock beats not working
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def claim_free_path(temporary: Path, path: Path) -> Path:
    """Give a finished file the first free name of path, path-2, path-3, … and return it. Never replaces a file."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.link(temporary, target)
            return target
        except FileExistsError:
            number += 1
        except OSError:  # a file system without hard links: reserve the name, then replace the empty file
            with contextlib.suppress(FileExistsError):
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.replace(temporary, target)
                return target
            number += 1


def check_writable(folder: str | Path) -> None:
    """Raise UserError unless files can be written in a folder, or in its nearest parent that exists.

    Leaves nothing behind.
    """
    folder = Path(folder)
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(
            f"folder {str(folder)!r} cannot be created: {str(existing)!r} is a file; choose another with --out"
        )
    probe = existing / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(probe, "xb") as file:
            file.write(b"vqtools")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"folder {str(folder)!r} cannot be written ({reason}); choose another with --out") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
