"""Independent work divided among processes of `accelerate launch`: scenes of an animation, cells of a grid.

Results that the folder holds are not made again, and nothing is made twice. Knows jobs, folders and processes; nothing
about how a picture is made. The processes need a common disk only where their results are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from vqtools.animation.animator import Animator
from vqtools.animation.octave_zoom import OctaveZoom
from vqtools.animation.project import Project, ProjectLockedError
from vqtools.animation.prompt_schedule import parse_prompt_schedule
from vqtools.animation.settings import AnimateSettings
from vqtools.core.distributed import Distributed
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.png_record import save_png
from vqtools.media.video import numbered_frames
from vqtools.pipelines.animate import create_animation
from vqtools.pipelines.grid import GridCell, PaintGrid

RunJob = Callable[[Any], object]
"""Runs a job to its end, or to where the user stops it."""


def split_scenes(settings: AnimateSettings) -> list[AnimateSettings]:
    """Split a prompt with ^ into scenes that are animations of their own; each gets the next seed.

    The scenes share the frames evenly. UserError for settings that cannot be split.
    """
    prompts = parse_prompt_schedule(settings.prompt, settings.prompts_at, frames=settings.frames).scene_prompts
    if len(prompts) < 2 or settings.video or settings.scene_frames:
        raise UserError("--apart needs a prompt with ^ whose scenes share the frames evenly, and no video")
    if settings.audio and not Path(settings.audio).is_file():
        raise UserError(f"audio {settings.audio!r} is not there")
    if settings.frames < len(prompts):
        raise UserError(f"{settings.frames} frames can't be shared by {len(prompts)} scenes; use more frames")
    first_seed = 0 if settings.seed is None else settings.seed
    ends = [settings.frames * k // len(prompts) for k in range(len(prompts) + 1)]
    return [
        settings.model_copy(update={"prompt": prompt, "frames": end - begin, "seed": (first_seed + k) % 2**63})
        for k, (prompt, (begin, end)) in enumerate(zip(prompts, pairwise(ends), strict=True))
    ]


def distribute_scenes(
    settings: AnimateSettings,
    folder: Path,
    distributed: Distributed,
    *,
    run: RunJob = finish,
    create: Callable[[AnimateSettings, Project], Animator | OctaveZoom] = create_animation,
) -> list[Path] | None:
    """Make this process's scenes in the folder, wait for the others, and return the frames of all scenes in order.

    None if scenes are missing: stopped, or on another machine's disk. ProjectLockedError if another run makes one.
    """
    scenes = split_scenes(settings)
    begins = [0, *accumulate(scene.frames for scene in scenes)]  # where each scene starts in the audio
    locked: ProjectLockedError | None = None
    for k in range(distributed.rank, len(scenes), distributed.size):
        record = {"settings": scenes[k].model_dump(mode="json"), "heard_from": begins[k]}
        project = Project(_scene_folder(folder, k), record)
        project.folder.mkdir(parents=True, exist_ok=True)
        try:
            with project.locked():
                project.save()
                job = create(scenes[k], project)
                run(job)
        except ProjectLockedError as error:
            locked = error
            break
        if job.position < job.total:
            break
    distributed.barrier()
    if locked is not None:  # not raised before: the other processes would wait at the barrier forever
        raise locked
    paths: list[Path] = []
    for k, scene in enumerate(scenes):
        frames = list(numbered_frames(_scene_folder(folder, k) / "frames").values())
        if len(frames) < scene.frames:
            return None
        paths += frames
    return paths


def _scene_folder(folder: Path, number: int) -> Path:
    return folder / f"scene-{number:02d}"


def distribute_cells(
    cells: Sequence[GridCell],
    folder: Path,
    stem: str,
    distributed: Distributed,
    *,
    run: RunJob = finish,
    **options: Any,
) -> list[Path] | None:
    """Paint this process's cells, each into its own file, wait for the others, and return the paths of all.

    None if some are missing. options: of the PaintGrid that paints a cell.
    """
    paths = [folder / f"{stem}-{i + 1:02d}.png" for i in range(len(cells))]
    for i in range(distributed.rank, len(cells), distributed.size):
        if paths[i].exists():
            continue
        grid = PaintGrid([cells[i]], **options)
        run(grid)
        if grid.position < grid.total:
            break
        save_png(paths[i], grid.finished[0].picture, grid.finished[0].record)
    distributed.barrier()
    return paths if all(path.exists() for path in paths) else None
