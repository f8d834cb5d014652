"""TODO: what this module is.

Split from vqtools.cli_paint, vqtools.cli_queue.
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


def parse_out_path(out: str | None, endings: tuple[str, ...] = (".png",)) -> tuple[Path, str | None]:
    """--out as (folder, file name), the name None where prompt and seed shall give it."""
    if out is None:
        return Path(), None
    path = Path(out)
    if not out.strip() or "\0" in out:
        raise UserError(f"--out {shorten(out)} is no path; leave it away to name the picture after its prompt")
    if path.is_dir() or out.endswith(("/", "\\")):
        return path, None
    if path.suffix.lower() not in ("", *endings):
        raise UserError(f"--out {shorten(out)}: pictures are written as PNG; the nearest is {path.with_suffix('.png')}")
    return path.parent, path.name if path.suffix else path.name + endings[-1 if len(endings) == 1 else 1]


def finish_painting(
    job: PaintSession,
    folder: Path,
    name: str | None,
    started: float,
    *,
    stop: Callable[[], bool] | None = None,
    notes: Sequence[str] = (),
) -> tuple[int, Path]:
    """Run a painting to its end, or to where `stop` says; save it, say where: (exit code, file)."""
    from vqtools.core.job import run_job
    from vqtools.core.paths import file_stem

    width, height = job.settings.size
    click.echo(f"{width}x{height}, seed {job.settings.seed}, {job.job.machine.describe()}", err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    finished = run_job(job, label="painting", stop=stop)
    for note in job.job.notes:
        click.echo(f"note: {note}", err=True)
    if job.position == 0:
        raise KeyboardInterrupt
    path = save_picture(
        job, folder / (name or file_stem(job.settings.prompt, job.settings.seed or 0) + ".png"), started
    )
    if finished:
        return 0, path
    click.echo(f"stopped after {job.position} of {job.total} steps", err=True)
    return 0 if stop is not None and stop() else STOPPED, path


def save_picture(job: PaintSession | SampleJob | PaintGrid, path: Path, started: float) -> Path:
    """Write the picture with its record, and say where."""
    from vqtools.media.png_record import save_png

    try:
        path = save_png(path, job.picture(), job.record())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another with --out") from None
    width, height = job.settings.size
    click.echo(f"{path} ({width}x{height}, seed {job.settings.seed}, {time.monotonic() - started:.1f} s)")
    return path


def echo_status(line: str) -> None:
    click.echo(line, err=True)
