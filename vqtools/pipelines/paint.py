"""Load the networks that settings name and create paintings: what `vqtools.paint` and `vqtools paint` call.

Knows networks by name, painting and saving; the job itself is :class:`~vqtools.pipelines.paint_job.PaintJob`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vqtools.core.device import choose_machine, recorded_threads
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.core.paths import file_stem
from vqtools.core.settings import check_size
from vqtools.media.png_record import save_png
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.image_inputs import ImageInputs
from vqtools.painting.parsers import parse_clips
from vqtools.painting.prior import TransformerLikelihood
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint_job import PaintJob, StartTransform
from vqtools.weights.load import LoadedNetwork, load_network, mismatch_reason


class PictureJob(Protocol):
    """A job that makes a picture with a prompt, a seed and a record: a painting, a grid or a sample."""

    @property
    def settings(self) -> Any:
        """Settings with ``prompt`` and ``seed``."""

    @property
    def activity(self) -> str:
        """Part of the file name; "" for none."""

    def picture(self) -> Image.Image:
        """The picture in its current state."""

    def record(self) -> dict[str, Any]:
        """What the PNG holds besides the picture."""


def paint(prompt: str, **fields: Any) -> Image.Image:
    """Paint a picture of a prompt; every field of PaintSettings is a keyword.

    The record that makes the same picture again is in ``picture.info["vqtools"]``; ``png_record.save_png`` saves it.
    """
    job = finish(create_paint_job(PaintSettings.parse({"prompt": prompt, **fields}).quick()))
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture


def create_session(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    replay: bool = False,
) -> PaintSession:
    """A painting that can be edited during its run; see :func:`create_paint_job` for the other arguments.

    threads: of the CPU; by default the number that the record states, if it states one.
    replay: repeat the edits of the record. The settings must then be those of :func:`reproduce.initial_settings`, where
        another size is possible.
    """
    if threads is None and record:
        threads = recorded_threads(record)
    job = create_paint_job(settings, threads=threads, record=record, trusted=trusted)
    return PaintSession(job, record=record if replay else None)


def create_paint_job(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    inputs: ImageInputs | None = None,
    transform_start: StartTransform | None = None,
) -> PaintJob:
    """A painting, ready to be stepped, with the networks that the settings name.

    threads: of the CPU; the same bits again need the same number.
    record: of the picture that the settings came from, if they came from one. Pictures embedded in it are used; files
        that only it names are opened if it is ``trusted``, else they raise UserError.
    inputs: pictures in memory, instead of a record.
    transform_start: is applied to the initial image; see :class:`PaintJob`.
    """
    inputs = inputs or ImageInputs(record, trusted=trusted)
    for kind in ("vqgan", "clip", "transformer"):
        inputs.check_network_trusted(kind, getattr(settings, kind))
    machine = choose_machine(precision=settings.precision, threads=threads)
    vqgan = load_network("vqgan", settings.vqgan)
    clip_weights = parse_clips(settings.clip)
    clips = [load_network("clip", name) for name in clip_weights]
    check_size(settings.size, 1 if settings.drawer == "pixels" else vqgan.network.f)
    if settings.init_image and settings.init != "auto":
        raise UserError(f"init {settings.init!r} and an init_image exclude each other; omit one of them")
    models: dict[str, Any] = {"vqgan": vqgan.record, "clip": _clip_record(settings.clip, clips)}
    # the prior can be switched on during the run: its transformer is loaded then
    load_prior = functools.partial(_load_prior_transformer, settings.transformer, vqgan, clips[0], models)
    likelihood = TransformerLikelihood(load_prior, machine)
    settings, transformer = _load_start_transformer(settings, vqgan, clips[0])
    if transformer is not None:
        models["transformer"] = transformer.record
    if settings.prior and settings.drawer == "vqgan":
        likelihood.prepare()
    networks = {clip.network: weight for clip, weight in zip(clips, clip_weights.values(), strict=True)}
    gpt = transformer.network if transformer else None
    return PaintJob(settings, vqgan.network, networks, gpt, machine, models, inputs, likelihood, transform_start)


def save_picture(job: PictureJob, folder: str | Path) -> Path:
    """Save a job's picture with its record as ``prompt-seed[-activity].png``; returns the path, a free one."""
    stem = file_stem(job.settings.prompt or "sample", job.settings.seed)
    name = f"{stem}-{job.activity}.png" if job.activity else f"{stem}.png"
    return save_png(Path(folder) / name, job.picture(), job.record())


def _clip_record(names: str, clips: Sequence[LoadedNetwork[CLIP]]) -> dict[str, str]:
    """The record's entry for one CLIP or several, with the hashes of those that are files of ours."""
    if len(clips) == 1 and clips[0].path:
        return {"name": names, "sha256": clips[0].sha256}
    return {"name": names, **{clip.name: clip.sha256 for clip in clips if clip.path}}


def _load_start_transformer(
    settings: PaintSettings, vqgan: LoadedNetwork[VQGAN], clip: LoadedNetwork[CLIP]
) -> tuple[PaintSettings, LoadedNetwork[GPT] | None]:
    """The transformer that draws the start, if one does, and the settings, in which it may be replaced by "none".

    The default transformer belongs to the starter VQGAN and CLIP: with others, the start is random codes. UserError if
    the settings name a transformer that does not fit.
    """
    draws_start = not settings.init_image and settings.init in ("auto", "sample") and settings.drawer == "vqgan"
    if not draws_start or settings.transformer in ("", "none"):
        return settings, None
    transformer = load_network("transformer", settings.transformer)
    assert transformer.path is not None
    paths = {kind: network.path for kind, network in (("vqgan", vqgan), ("clip", clip)) if network.path}
    problem = mismatch_reason(transformer.path, paths)
    if not problem:
        return settings, transformer
    if "transformer" in settings.model_fields_set:
        raise UserError(problem)
    return settings.model_copy(update={"transformer": "none"}), None


def _load_prior_transformer(
    name: str, vqgan: LoadedNetwork[VQGAN], clip: LoadedNetwork[CLIP], models: dict[str, Any]
) -> tuple[GPT, CLIP | None]:
    """The transformer of the likelihood prior, and the CLIP if the transformer was trained with its embeddings.

    Adds the transformer to the record's ``models``.
    """
    if name in ("", "none"):
        raise UserError("prior: needs a transformer, but transformer is none; choose one, or set prior 0")
    transformer = load_network("transformer", name)
    trained_with, num_codes = transformer.trained_with, transformer.network.config.num_codes
    other_vqgan = trained_with.get("vqgan") not in (None, "", vqgan.sha256)
    if other_vqgan or num_codes != vqgan.network.config.codebook_size:
        raise UserError(
            f"prior: the transformer {name!r} draws {num_codes} codes of another VQGAN; choose one that was trained"
            f" with this VQGAN and its {vqgan.network.config.codebook_size}, or set prior 0"
        )
    models["transformer"] = transformer.record
    same_clip = clip.path is not None and trained_with.get("clip") in (None, "", clip.sha256)
    return transformer.network, clip.network if same_clip else None
