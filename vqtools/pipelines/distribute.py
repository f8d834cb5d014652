"""Independent work, dealt out to the processes that `accelerate launch` started: a film's scenes, a grid's pictures.

What lies in the folder is not made again, and nothing is made by two. Knows jobs, folders and processes; nothing about
how a picture comes about. The processes need a common disk only where their work is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from vqtools.animation.animator import Animator
from vqtools.animation.octave_zoom import OctaveZoom
from vqtools.animation.project import Project, ProjectLockedError
from vqtools.animation.prompt_schedule import parse_prompt_schedule as spoken
from vqtools.animation.settings import AnimateSettings
from vqtools.core.distributed import Distributed
from vqtools.core.errors import UserError
from vqtools.media.png_record import save_png
from vqtools.media.video import numbered_frames
from vqtools.pipelines.animate import create_animation
from vqtools.pipelines.grid import GridCell, PaintGrid

RunJob = Callable[[Any], bool]
"""Drives a job; whether it came to its end."""


def run_to_end(job: Any) -> bool:
    """Every step of a job, without a word."""
    while job.position < job.total:
        job.step()
    return True


def split_scenes(settings: AnimateSettings) -> list[AnimateSettings]:
    """The scenes of a prompt with ^, each an animation of its own: its share of the frames, and the next seed."""
    parts = spoken(settings.prompt, settings.prompts_at, frames=settings.frames).scene_prompts
    if len(parts) < 2 or settings.video or settings.scene_frames:
        raise UserError("scenes apart want a prompt with ^ between them that share the frames evenly, and no film")
    if settings.audio and not Path(settings.audio).is_file():
        raise UserError(f"audio {settings.audio!r} is not there")
    if settings.frames < len(parts):
        raise UserError(f"{settings.frames} frames can't be shared by {len(parts)} scenes; take more")
    ends = [settings.frames * k // len(parts) for k in range(len(parts) + 1)]
    return [
        settings.model_copy(update={"prompt": part, "frames": b - a, "seed": ((settings.seed or 0) + k) % 2**63})
        for k, (part, (a, b)) in enumerate(zip(parts, pairwise(ends), strict=True))
    ]


def distribute_scenes(
    settings: AnimateSettings,
    folder: Path,
    team: Distributed,
    *,
    run: RunJob = run_to_end,
    make: Callable[[AnimateSettings, Project], Animator | OctaveZoom] = create_animation,
) -> list[Path] | None:
    """Make this process's scenes in the folder, and wait for the others': the whole film's frames in order.

    None where scenes are missing: stopped, or on another machine's disk. UserError where another run has one in hand.
    """
    parts = split_scenes(settings)
    begins = [0, *accumulate(part.frames for part in parts)]  # each hears the sound from where it stands in the film
    taken: ProjectLockedError | None = None
    for k in range(team.rank, len(parts), team.size):
        record = {"settings": parts[k].model_dump(mode="json"), "heard_from": begins[k]}
        project = Project(folder / f"scene-{k:02d}", record)
        project.folder.mkdir(parents=True, exist_ok=True)
        try:
            with project.locked():
                project.save()
                if not run(make(parts[k], project)):
                    break
        except ProjectLockedError as error:
            taken = error
            break
    team.barrier()
    if taken is not None:  # only now: the other processes would wait for this one without end
        raise taken
    found: list[Path] = []
    for k, part in enumerate(parts):
        frames = list(numbered_frames(folder / f"scene-{k:02d}" / "frames").values())
        if len(frames) < part.frames:
            return None
        found += frames
    return found


def distribute_cells(
    cells: Sequence[GridCell], folder: Path, stem: str, team: Distributed, *, run: RunJob = run_to_end, **options: Any
) -> list[Path] | None:
    """Paint this process's cells, each into a file of its own, and wait for the others': the files of all.

    None where some are missing. options: of the Sheet that paints them.
    """
    paths = [folder / f"{stem}-{i + 1:02d}.png" for i in range(len(cells))]
    for i in range(team.rank, len(cells), team.size):
        if paths[i].exists():
            continue
        sheet = PaintGrid([cells[i]], **options)
        if not run(sheet):
            break
        save_png(paths[i], sheet.finished[0].picture, sheet.finished[0].record)
    team.barrier()
    return paths if all(path.exists() for path in paths) else None
