"""Losses of stage 1 against the reference's stored values."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtools.training.losses import adaptive_weight, adversarial_g, diff_augment, hinge_d, lecam, minimax_g, vanilla_d

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_hinge_loss_equals_the_reference() -> None:
    stored = load_file(GOLDEN / "taming_gan_losses.safetensors")
    found = hinge_d(stored["logits_real"], stored["logits_fake"])
    torch.testing.assert_close(found, stored["hinge"], rtol=0, atol=1e-6)


def test_the_vanilla_loss_equals_the_reference() -> None:
    stored = load_file(GOLDEN / "taming_gan_losses.safetensors")
    found = vanilla_d(stored["logits_real"], stored["logits_fake"])
    torch.testing.assert_close(found, stored["vanilla"], rtol=0, atol=1e-6)


def test_the_minimax_gradient_vanishes_where_the_discriminator_is_certain() -> None:
    fake = torch.tensor([-12.0, 0.0], requires_grad=True)
    loss = minimax_g(fake)
    assert loss.item() == pytest.approx(torch.log1p(-fake.sigmoid()).mean().item(), abs=1e-5)
    (minimax,) = torch.autograd.grad(loss, fake)
    (hinge,) = torch.autograd.grad(adversarial_g(fake), fake)
    assert abs(minimax[0]) < 1e-4 * abs(hinge[0])


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    reconstruction, adversarial = torch.tensor([6.0, 8.0]), torch.tensor([0.0, 2.0])
    assert adaptive_weight(reconstruction, adversarial).item() == pytest.approx(10 / (2 + 1e-4))
    assert adaptive_weight(reconstruction, adversarial, cap=3.0).item() == 3.0


def test_lecam_is_zero_beyond_the_other_running_mean() -> None:
    real, fake = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 4.0])
    assert lecam(real, fake, torch.tensor(1.0), torch.tensor(0.5)) == 0.0
    # real 0.5 lies 1.5 over the made mean -1, made 1.0 lies 1 under the real mean 2
    assert lecam(real, fake, torch.tensor(2.0), torch.tensor(-1.0)).item() == pytest.approx(1.5**2 / 2 + 1 / 2)


def test_neutral_augmentation_only_cuts_a_hole() -> None:
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    found = diff_augment(images, torch.full((2, 7), 0.5))
    kept = torch.ones(16, 16, dtype=torch.bool)
    kept[5:12, 5:12] = False  # closer than a quarter of the side to the middle
    torch.testing.assert_close(found, images * kept)
    found.sum().backward()
    assert images.grad is not None


def test_augmentation_translates_by_up_to_an_eighth() -> None:
    images = torch.zeros(1, 3, 16, 16)
    images[..., 12, 3] = 1.0
    draws = torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0]])  # looks 2 further down and 2 further left
    found = diff_augment(images, draws)
    assert found[0, 0].argmax() == 10 * 16 + 5
