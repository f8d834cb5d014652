"""Losses of stage 1 against the reference's stored values."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.training.losses import adaptive_weight, adversarial_g, hinge_d

GOLDEN = Path(__file__).parents[1] / "golden"


def test_hinge_is_the_reference_s() -> None:
    stored = load_file(GOLDEN / "taming_gan_losses.safetensors")
    found = hinge_d(stored["logits_real"], stored["logits_fake"])
    torch.testing.assert_close(found, stored["hinge"], rtol=0, atol=1e-6)


def test_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    reconstruction = (weight * torch.tensor([6.0, 8.0])).sum()  # gradient of norm 10
    adversarial = adversarial_g(weight * torch.tensor([0.0, 4.0]))  # mean of two: gradient of norm 2
    found = adaptive_weight(reconstruction, adversarial, weight)
    assert found.item() == pytest.approx(10 / (2 + 1e-4))
    assert not found.requires_grad
    assert adaptive_weight(reconstruction, adversarial, weight, cap=3.0).item() == 3.0
