"""Puts networks, sampler and painter together: what `import vqtools` offers.

Knows all rooms: networks by name, painting, animation. A single picture as a job is picture.py.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vqtools import media
from vqtools.animation.animator import Animator
from vqtools.animation.forecast import Estimate, forecast
from vqtools.animation.octaves import Compose, OctaveZoom
from vqtools.animation.project import Project, film
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.track import Track
from vqtools.device import choose
from vqtools.networks import find, load_clip, load_transformer, load_vqgan, misfit
from vqtools.painting.easel import Easel
from vqtools.painting.inputs import Inputs
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings, parse_clips
from vqtools.picture import Painting
from vqtools.settings import UserError, check_size
from vqtools.weights import files

__all__ = [
    "AnimateSettings", "Easel", "PaintSettings", "Painter", "Painting", "animate", "animation", "easel", "estimate",
    "find", "load_clip", "load_transformer", "load_vqgan", "paint", "painting",
]  # fmt: skip


def painting(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    inputs: Inputs | None = None,
    kind: Callable[..., Painting] = Painting,
) -> Painting:
    """A painting ready to be stepped, its networks found by the settings' names.

    threads: of the CPU; a picture made again to the same bits needs the number it was made with.
    record: of the picture that the settings came from, if they did: the small inputs that it holds are used, and files
        that only it names are opened if they are ``trusted``, else a UserError. inputs: instead of the record, pictures
        that are at hand. kind: the class.
    """
    inputs = inputs or Inputs(record, trusted=trusted)
    for network in ("vqgan", "clip", "transformer"):
        inputs.check_name(network, getattr(settings, network))
    machine = choose(precision=settings.precision, threads=threads)
    paths: dict[str, Path] = {"vqgan": find("vqgan", settings.vqgan)}
    vqgan = load_vqgan(settings.vqgan)
    judges = parse_clips(settings.clip)
    clips = {load_clip(name): weight for name, weight in judges.items()}
    check_size(settings.size, 1 if settings.drawer == "pixels" else vqgan.f)
    local = [name for name in judges if "/" not in name or Path(name).exists()]
    if next(iter(judges)) in local:
        paths["clip"] = find("clip", next(iter(judges)))
    if settings.init_image and settings.init != "auto":
        raise UserError(f"init {settings.init!r} and an init_image: choose one of them to begin with")
    gpt = None
    if not settings.init_image and settings.init in ("auto", "sample") and settings.drawer == "vqgan" and (
        settings.transformer not in ("", "none")
    ):  # fmt: skip
        path = find("transformer", settings.transformer)
        problem = misfit(path, paths)
        if not problem:
            paths["transformer"], gpt = path, load_transformer(settings.transformer)
        elif "transformer" in settings.model_fields_set:
            raise UserError(problem)
        else:  # the default belongs to the starters alone; without it the picture starts from random codes
            settings = settings.model_copy(update={"transformer": "none"})
    models: dict[str, Any] = {kind: {"name": getattr(settings, kind), "sha256": files.sha256(path)}
                              for kind, path in paths.items()}  # fmt: skip
    if len(judges) > 1 or not local:
        models["clip"] = {"name": settings.clip, **{name: files.sha256(find("clip", name)) for name in local}}
    return kind(settings, vqgan, clips, gpt, machine, models, inputs)


def easel(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    replay: bool = False,
) -> Easel:
    """A painting that can be steered; see :func:`painting`. replay: follow the record's journal while it forms.

    A replay begins with the record's ``began``; with another size in it, the same picture is made larger.
    """
    job = painting(settings, threads=threads, record=record, trusted=trusted)
    return Easel(job, record=record if replay else None)


def paint(prompt: str, **fields: Any) -> Image.Image:
    """A picture from a prompt; every field of PaintSettings is a keyword.

    The record that makes the same picture again is in ``picture.info["vqtools"]``; ``media.save_png`` keeps it.
    """
    job = painting(PaintSettings.parse({"prompt": prompt, **fields}).quick())
    while job.position < job.total:
        job.step()
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture


class Octave(Painting):
    """A painting whose start goes through a function first: what an octave zoom's pictures are."""

    def __init__(self, *arguments: Any, compose: Compose) -> None:
        self.compose = compose
        super().__init__(*arguments)

    def _begin(self, start: Image.Image | None) -> None:
        super()._begin(self.compose(start))


def animation(settings: AnimateSettings, project: Project, *, threads: int | None = None) -> Animator | OctaveZoom:
    """An animation ready to be stepped, its networks found by the settings' names; a folder with frames goes on.

    threads: of the CPU; the same bits again need the number they were made with.
    """
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    settings = settings.model_copy(update={"seed": seed})
    if settings.drawer == "pixels":
        raise UserError("drawer 'pixels' is for single pictures; animate with 'vqgan'")
    track = Track(settings, seed)
    first = painting(settings.model_copy(update={"prompt": track.prompt(0)}), threads=threads)
    project.record = {
        **{name: value for name, value in first.record().items() if name not in ("position", "total")},
        "settings": settings.model_dump(mode="json"),
    }
    project.save()
    if not settings.octave_zoom:
        return Animator(settings, first, project, seed=seed, track=track)

    def begin(prompt: str, seed: int, compose: Compose) -> Painting:
        wish = settings.model_copy(update={"prompt": prompt, "seed": seed})
        return painting(wish, threads=threads, kind=functools.partial(Octave, compose=compose))

    return OctaveZoom(settings, begin, project, seed=seed, track=track)


def estimate(job: Animator | OctaveZoom) -> Estimate:
    """What an animation will take, from a few steps of a painting that is thrown away."""
    settings = job.settings
    vqgan, clip = load_vqgan(settings.vqgan), load_clip(next(iter(parse_clips(settings.clip))))
    trial = settings.model_copy(update={"prompt": job.track.prompt(0), "seed": 0})
    return forecast(
        job, Painter(trial, vqgan, [clip.to(choose().device)], machine=choose(precision=settings.precision))
    )


def animate(prompt: str, *, out: str | Path | None = None, **fields: Any) -> Path:
    """Frames and a video from a prompt; every field of AnimateSettings is a keyword. Returns the folder."""
    settings = AnimateSettings.parse({"prompt": prompt, **fields}).quick()
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": secrets.randbelow(2**32)})
    stem = media.file_stem(settings.prompt, settings.seed or 0)
    project = Project.create(out or stem, {"settings": settings.model_dump(mode="json")})
    job = animation(settings, project)
    while job.position < job.total:
        job.step()
    film(project, settings)
    return project.folder
