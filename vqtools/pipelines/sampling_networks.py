"""TODO: what this module is.

Split from vqtools.drawing.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.settings import SampleSettings, ScoreSettings
from vqtools.weights.load import load_transformer, load_vqgan, resolve_path
from vqtools.weights.model_file import file_sha256, read_header


def load_sampling_networks(
    settings: SampleSettings | ScoreSettings, machine: Machine
) -> tuple[VQGAN, GPT, dict[str, Any]]:
    """VQGAN, transformer and the record of both; UserError where they do not belong together."""
    paths = {kind: resolve_path(kind, getattr(settings, kind)) for kind in ("vqgan", "transformer")}
    trained = read_header(paths["transformer"])["about"]
    if isinstance(settings, SampleSettings) and settings.prompt and "/" not in settings.clip:
        paths["clip"] = resolve_path("clip", settings.clip)
    models = {kind: {"name": getattr(settings, kind), "sha256": file_sha256(path)} for kind, path in paths.items()}
    for kind in set(paths) & {"vqgan", "clip"}:
        if trained.get(kind) not in (None, "", models[kind]["sha256"]):
            raise UserError(f"the transformer {settings.transformer!r} was trained with another {kind}; choose its own")
    vqgan, gpt = load_vqgan(settings.vqgan), load_transformer(settings.transformer)
    if gpt.config.num_codes > vqgan.config.codebook_size:
        raise UserError(
            f"the transformer {settings.transformer!r} draws {gpt.config.num_codes} codes, but the VQGAN"
            f" {settings.vqgan!r} has {vqgan.config.codebook_size}; choose the one that it was trained with"
        )
    gpt = gpt.to(machine.device)
    narrow = machine.precision != "fp32"
    return vqgan, deepcopy(gpt).to(machine.dtype) if narrow else pack_linear_layers(gpt), models
