"""What commands that make a picture share: reading --out, running the job, saving the picture and reporting it.

Knows jobs, files and the terminal; nothing about the settings of any command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqtools.cli.options import STOPPED
from vqtools.core.errors import UserError, shorten

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession
    from vqtools.pipelines.grid import PaintGrid
    from vqtools.pipelines.sample import SampleJob


def echo_status(line: str) -> None:
    """Print a line about progress to stderr, so that stdout holds results only."""
    click.echo(line, err=True)


def parse_out_path(out: str | None, suffixes: tuple[str, ...] = (".png",)) -> tuple[Path, str | None]:
    """Split --out into (folder, file name); the name is None where it is to be made from the prompt and the seed.

    A name without a suffix gets one: the only one allowed, or the second of several (the first is PNG, the others are
    video formats). Raises UserError for a name with another suffix.
    """
    if out is None:
        return Path(), None
    path = Path(out)
    if not out.strip() or "\0" in out:
        raise UserError(f"--out {shorten(out)} is not a path; omit it to name the picture after its prompt")
    if path.is_dir() or out.endswith(("/", "\\")):
        return path, None
    if path.suffix.lower() not in ("", *suffixes):
        raise UserError(f"--out {shorten(out)}: pictures are written as PNG; the nearest is {path.with_suffix('.png')}")
    return path.parent, path.name if path.suffix else path.name + suffixes[-1 if len(suffixes) == 1 else 1]


def finish_painting(
    job: PaintSession,
    folder: Path,
    name: str | None,
    started: float,
    *,
    stop: Callable[[], bool] | None = None,
    notes: Sequence[str] = (),
) -> tuple[int, Path]:
    """Run a painting to its end, or until ``stop()`` is true, and save it. Returns (exit code, path).

    started: ``time.monotonic()`` when the work began. notes: printed before the first step.
    """
    from vqtools.core.job import run_job
    from vqtools.core.paths import file_stem

    width, height = job.settings.size
    echo_status(f"{width}x{height}, seed {job.settings.seed}, {job.job.machine.describe()}")
    for note in notes:
        echo_status(f"note: {note}")
    finished = run_job(job, label="painting", stop=stop)
    for note in job.job.notes:
        echo_status(f"note: {note}")
    if job.position == 0:
        raise KeyboardInterrupt
    name = name or file_stem(job.settings.prompt, job.settings.known_seed) + ".png"
    path = save_picture(job, folder / name, started)
    if finished:
        return 0, path
    echo_status(f"stopped after {job.position} of {job.total} steps")
    return 0 if stop is not None and stop() else STOPPED, path


def save_picture(job: PaintSession | SampleJob | PaintGrid, path: Path, started: float) -> Path:
    """Write the picture with its record, print where it is, and return its path: a free name near ``path``."""
    from vqtools.media.png_record import save_png

    try:
        path = save_png(path, job.picture(), job.record())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another with --out") from None
    width, height = job.settings.size
    click.echo(f"{path} ({width}x{height}, seed {job.settings.seed}, {time.monotonic() - started:.1f} s)")
    return path
