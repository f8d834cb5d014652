"""The easing curve of fades."""

import pytest
import torch

from vqtools.animation.easing import smoothstep


def test_smoothstep_rises_from_zero_to_one_with_flat_ends() -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    y = smoothstep(x)
    assert y[0] == 0 and y[50] == 0.5 and y[-1] == 1 and bool((y.diff() > 0).all())
    assert float(y[1]) < 0.001 and float(1 - y[-2]) < 0.001
    assert smoothstep(0.25) == pytest.approx(float(y[25]))
