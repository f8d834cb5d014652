"""Generated initial images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vqtools.painting.init_images import random_gradient_image, random_noise_image


@pytest.mark.parametrize("make", [random_noise_image, random_gradient_image])
def test_generated_images_depend_on_the_seed_alone(make: Callable[..., torch.Tensor]) -> None:
    first, again, other = (make(torch.Generator().manual_seed(seed), 48, 32) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=0.05)
    assert first.shape == (1, 3, 32, 48) and first.min() >= -1 and first.max() <= 1
    assert first.std() > 0.05
