"""Puts networks, sampler and painter together: what `import vqtools` offers.

Knows networks by name and painting; animation is put together in filming.py. A single picture as a job is picture.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vqtools.core.device import choose_machine, recorded_threads
from vqtools.core.errors import UserError
from vqtools.core.paths import file_stem
from vqtools.core.settings import check_size
from vqtools.media.png_record import save_png
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.image_inputs import ImageInputs
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_clips
from vqtools.painting.prior import TransformerLikelihood
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint_job import PaintJob, StartTransform
from vqtools.weights.load import load_clip, load_transformer, load_vqgan, mismatch_reason, resolve_path
from vqtools.weights.model_file import file_sha256, read_header

__all__ = [
    "PaintJob",
    "PaintSession",
    "PaintSettings",
    "Painter",
    "create_paint_job",
    "create_session",
    "load_clip",
    "load_transformer",
    "load_vqgan",
    "paint",
    "resolve_path",
]  # fmt: skip


def create_paint_job(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    inputs: ImageInputs | None = None,
    transform_start: StartTransform | None = None,
) -> PaintJob:
    """A painting ready to be stepped, its networks found by the settings' names.

    threads: of the CPU; a picture made again to the same bits needs the number it was made with.
    record: of the picture that the settings came from, if they did: the small inputs that it holds are used, and files
        that only it names are opened if they are ``trusted``, else a UserError. inputs: instead of the record, pictures
        that are at hand. transform_start: is applied to the initial image; see :class:`PaintJob`.
    """
    inputs = inputs or ImageInputs(record, trusted=trusted)
    for network in ("vqgan", "clip", "transformer"):
        inputs.check_network_trusted(network, getattr(settings, network))
    machine = choose_machine(precision=settings.precision, threads=threads)
    paths: dict[str, Path] = {"vqgan": resolve_path("vqgan", settings.vqgan)}
    vqgan = load_vqgan(settings.vqgan)
    judges = parse_clips(settings.clip)
    clips = {load_clip(name): weight for name, weight in judges.items()}
    check_size(settings.size, 1 if settings.drawer == "pixels" else vqgan.f)
    local = [name for name in judges if "/" not in name or Path(name).exists()]
    if next(iter(judges)) in local:
        paths["clip"] = resolve_path("clip", next(iter(judges)))
    if settings.init_image and settings.init != "auto":
        raise UserError(f"init {settings.init!r} and an init_image: choose one of them to begin with")
    gpt, reader = None, settings.transformer
    if not settings.init_image and settings.init in ("auto", "sample") and settings.drawer == "vqgan" and (
        settings.transformer not in ("", "none")
    ):  # fmt: skip
        path = resolve_path("transformer", settings.transformer)
        problem = mismatch_reason(path, paths)
        if not problem:
            paths["transformer"], gpt = path, load_transformer(settings.transformer)
        elif "transformer" in settings.model_fields_set:
            raise UserError(problem)
        else:  # the default belongs to the starters alone; without it the picture starts from random codes
            settings = settings.model_copy(update={"transformer": "none"})
    models: dict[str, Any] = {kind: {"name": getattr(settings, kind), "sha256": file_sha256(path)}
                              for kind, path in paths.items()}  # fmt: skip
    if len(judges) > 1 or not local:
        models["clip"] = {"name": settings.clip, **{name: file_sha256(resolve_path("clip", name)) for name in local}}
    # a prior may be asked for in mid-run: its transformer is looked for then
    load = functools.partial(_load_prior_transformer, reader, paths, vqgan, next(iter(clips)), models)
    likelihood = TransformerLikelihood(load, machine)
    if settings.prior and settings.drawer == "vqgan":
        likelihood.prepare()
    return PaintJob(settings, vqgan, clips, gpt, machine, models, inputs, likelihood, transform_start)


def _load_prior_transformer(
    name: str, paths: Mapping[str, Path], vqgan: VQGAN, clip: CLIP, models: dict[str, Any]
) -> tuple[GPT, CLIP | None]:
    """The transformer that says how likely codes are, and the CLIP if it is the one whose captions it reads.

    It is added to the record's ``models``.
    """
    if name in ("", "none"):
        raise UserError("prior: it takes a transformer to say what is likely; choose one, or set prior 0")
    path = resolve_path("transformer", name)
    trained, gpt = read_header(path)["about"], load_transformer(name)
    other = trained.get("vqgan") not in (None, "", file_sha256(paths["vqgan"]))
    if other or gpt.config.num_codes != vqgan.config.codebook_size:
        raise UserError(
            f"prior: the transformer {name!r} draws {gpt.config.num_codes} codes of another VQGAN; choose one that was"
            f" trained with this VQGAN and its {vqgan.config.codebook_size}, or set prior 0"
        )
    models["transformer"] = {"name": name, "sha256": file_sha256(path)}
    heard = "clip" in paths and trained.get("clip") in (None, "", file_sha256(paths["clip"]))
    return gpt, clip if heard else None


def create_session(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    replay: bool = False,
) -> PaintSession:
    """A painting that can be steered; see :func:`create_paint_job`. replay: follow the record's journal while it forms.

    threads: of the CPU; without it the number that the record states, if it states one.

    A replay begins with the record's ``began``; with another size in it, the same picture is made larger.
    """
    if threads is None and record:
        threads = recorded_threads(record)
    job = create_paint_job(settings, threads=threads, record=record, trusted=trusted)
    return PaintSession(job, record=record if replay else None)


def paint(prompt: str, **fields: Any) -> Image.Image:
    """A picture from a prompt; every field of PaintSettings is a keyword.

    The record that makes the same picture again is in ``picture.info["vqtools"]``; ``media.save_png`` keeps it.
    """
    job = create_paint_job(PaintSettings.parse({"prompt": prompt, **fields}).quick())
    while job.position < job.total:
        job.step()
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture


class PictureJob(Protocol):
    """A job that makes a picture with a prompt, a seed and a record: a painting, a grid or a sample."""

    @property
    def settings(self) -> Any:
        """With ``prompt`` and ``seed``."""

    @property
    def activity(self) -> str:
        """Part of the file name; "" for none."""

    def picture(self) -> Image.Image:
        """The picture as it stands."""

    def record(self) -> dict[str, Any]:
        """What the PNG holds."""


def save_picture(job: PictureJob, folder: str | Path) -> Path:
    """Save a job's picture with its record as ``prompt-seed[-activity].png``; returns the path, a free one."""
    stem = file_stem(job.settings.prompt or "sample", job.settings.seed)
    name = f"{stem}-{job.activity}.png" if job.activity else f"{stem}.png"
    return save_png(Path(folder) / name, job.picture(), job.record())
