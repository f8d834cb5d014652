"""Load the networks of the commands that use a transformer's codes: sample, score and animate.

Knows networks by name, and which belong together; nothing about what they are used for.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.settings import SampleSettings, ScoreSettings
from vqtools.weights.load import load_network


def load_sampling_networks(
    settings: SampleSettings | ScoreSettings, machine: Machine
) -> tuple[VQGAN, GPT, dict[str, Any]]:
    """Load the VQGAN and the transformer that the settings name.

    The transformer is on the machine's device and in its precision. The third result holds name and SHA-256 of each
    network, for the record. UserError if a network does not exist, or if they were not trained for each other.
    """
    vqgan, transformer = load_network("vqgan", settings.vqgan), load_network("transformer", settings.transformer)
    models = {"vqgan": vqgan.record, "transformer": transformer.record}
    if isinstance(settings, SampleSettings) and settings.prompt and "/" not in settings.clip:
        models["clip"] = load_network("clip", settings.clip).record
    for kind in set(models) & {"vqgan", "clip"}:
        if transformer.trained_with.get(kind) not in (None, "", models[kind]["sha256"]):
            raise UserError(f"the transformer {settings.transformer!r} was trained with another {kind}; choose its own")
    gpt, codebook_size = transformer.network, vqgan.network.config.codebook_size
    if gpt.config.num_codes > codebook_size:
        raise UserError(
            f"the transformer {settings.transformer!r} predicts {gpt.config.num_codes} codes, but the VQGAN"
            f" {settings.vqgan!r} has {codebook_size}; choose the one that it was trained with"
        )
    gpt = gpt.to(machine.device)
    if machine.precision == "fp32":
        return vqgan.network, pack_linear_layers(gpt), models
    return vqgan.network, deepcopy(gpt).to(machine.dtype), models
