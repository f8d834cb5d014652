"""Puts networks, sampler and painter together: what `import vqtools` offers.

Knows networks by name and painting; animation is put together in filming.py. A single picture as a job is picture.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vqtools.animation.octaves import Compose
from vqtools.device import choose
from vqtools.likelihood import Likelihood
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.networks import find, load_clip, load_transformer, load_vqgan, misfit
from vqtools.painting.easel import Easel
from vqtools.painting.inputs import Inputs
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings, parse_clips
from vqtools.picture import Painting
from vqtools.settings import UserError, check_size
from vqtools.weights import files

__all__ = [
    "Easel", "PaintSettings", "Painter", "Painting", "easel", "find",
    "load_clip", "load_transformer", "load_vqgan", "paint", "painting",
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
    gpt, reader = None, settings.transformer
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
    # a prior may be asked for in mid-run: its transformer is looked for then
    load = functools.partial(_reader, reader, paths, vqgan, next(iter(clips)), models)
    likelihood = Likelihood(load, machine)
    if settings.prior and settings.drawer == "vqgan":
        likelihood.prepare()
    return kind(settings, vqgan, clips, gpt, machine, models, inputs, likelihood)


def _reader(
    name: str, paths: Mapping[str, Path], vqgan: VQGAN, clip: CLIP, models: dict[str, Any]
) -> tuple[GPT, CLIP | None]:
    """The transformer that says how likely codes are, and the CLIP if it is the one whose captions it reads.

    It is added to the record's ``models``.
    """
    if name in ("", "none"):
        raise UserError("prior: it takes a transformer to say what is likely; choose one, or set prior 0")
    path = find("transformer", name)
    trained, gpt = files.read_header(path)["about"], load_transformer(name)
    other = trained.get("vqgan") not in (None, "", files.sha256(paths["vqgan"]))
    if other or gpt.config.drawable != vqgan.config.codebook_size:
        raise UserError(
            f"prior: the transformer {name!r} draws {gpt.config.drawable} codes of another VQGAN; choose one that was"
            f" trained with this VQGAN and its {vqgan.config.codebook_size}, or set prior 0"
        )
    models["transformer"] = {"name": name, "sha256": files.sha256(path)}
    heard = "clip" in paths and trained.get("clip") in (None, "", files.sha256(paths["clip"]))
    return gpt, clip if heard else None


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
