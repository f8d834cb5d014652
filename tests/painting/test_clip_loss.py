from __future__ import annotations

import math

import torch

from vqtools.painting.clip_loss import clamp_with_grad, prompt_losses, spherical_distance


def at_angle(*degrees: float) -> torch.Tensor:
    """Unit vectors (n, 2)."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_spherical_distance_is_half_the_squared_angle() -> None:
    distance = spherical_distance(at_angle(0, 0, 0), at_angle(30, 90, 0))
    expected = torch.tensor([math.radians(30) ** 2 / 2, math.radians(90) ** 2 / 2, 0], dtype=torch.float64)
    torch.testing.assert_close(distance, expected)


def test_spherical_distance_has_finite_gradients_for_equal_and_opposite_vectors() -> None:
    a = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    for b in (a.detach().clone(), -a.detach()):
        (gradient,) = torch.autograd.grad(spherical_distance(a, b).sum(), a)
        assert gradient.isfinite().all()


def test_clamp_with_grad_passes_gradients_that_lead_back_into_the_range() -> None:
    x = torch.tensor([-2.0, -2.0, 0.5, 0.5, 3.0, 3.0], requires_grad=True)
    gradient = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    y = clamp_with_grad(x, 0, 1)
    assert y.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    y.backward(gradient)
    # a step goes against the gradient: at -2 only a negative one leads up, at 3 only a positive one leads down
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, -1, 1, 0]


def losses_and_pull(degrees: float, weight: float, stop: float) -> tuple[float, float]:
    """Loss and its derivative by the picture's angle (1/radian), for a prompt at 0 degrees."""
    angle = torch.tensor(math.radians(degrees), dtype=torch.float64, requires_grad=True)
    picture = torch.stack([angle.cos(), angle.sin()]).unsqueeze(0)
    weights, stops = (torch.tensor([value], dtype=torch.float64) for value in (weight, stop))
    loss = prompt_losses(picture, at_angle(0), weights, stops).sum()
    (pull,) = torch.autograd.grad(loss, angle)
    return loss.item(), pull.item()


def test_value_and_gradient_of_a_prompt_match_hand_calculation() -> None:
    # d = angle²/2, so its slope is the angle
    angle = math.radians(60)
    for weight in (2.0, -0.3):
        loss, pull = losses_and_pull(60, weight, -math.inf)
        assert math.isclose(loss, weight * angle**2 / 2)
        assert math.isclose(pull, weight * angle)


def test_a_positive_prompt_has_no_gradient_below_its_stop() -> None:
    d = math.radians(60) ** 2 / 2
    far, near = losses_and_pull(60, 2.0, d - 0.01), losses_and_pull(60, 2.0, d + 0.01)
    assert math.isclose(far[1], 2 * math.radians(60))
    assert near[1] == 0
    assert math.isclose(near[0], 2 * d)  # the value goes on telling the truth


def test_a_negative_prompt_has_no_gradient_beyond_its_stop() -> None:
    d = math.radians(60) ** 2 / 2
    near, far = losses_and_pull(60, -0.5, -d - 0.01), losses_and_pull(60, -0.5, -d + 0.01)
    assert math.isclose(near[1], -0.5 * math.radians(60))
    assert far[1] == 0
    assert math.isclose(far[0], -0.5 * d)


def test_the_stop_applies_to_each_image_separately() -> None:
    weights, stops = torch.tensor([1.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    pictures = at_angle(20, 90).requires_grad_()
    (gradient,) = torch.autograd.grad(prompt_losses(pictures, at_angle(0), weights, stops).sum(), pictures)
    assert gradient[0].abs().max() == 0
    assert gradient[1].abs().max() > 0
