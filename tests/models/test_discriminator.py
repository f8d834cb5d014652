"""The patch discriminator against the reference's stored logits."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from vqtools.models.discriminator import PatchDiscriminator

GOLDEN = Path(__file__).parents[1] / "golden"


def test_logits_equal_the_reference_in_eval_and_train_mode() -> None:
    stored = load_file(GOLDEN / "taming_discriminator.safetensors")
    model = PatchDiscriminator(8, layers=2)
    model.load_state_dict({k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")})
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(stored["image"]), stored["logits_eval"], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.train()(stored["image"]), stored["logits_train"], rtol=0, atol=1e-5)
