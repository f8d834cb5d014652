"""Flights show what their curves say, and nothing outside the picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vqtools.animation.flight import Flight
from vqtools.animation.settings import FlySettings
from vqtools.core.errors import UserError


def stripes(width: int, height: int, columns: int) -> Image.Image:
    x = np.arange(width) * columns // width
    return Image.fromarray(np.broadcast_to((x * 255 // (columns - 1))[None, :, None], (height, width, 3)).astype("u1"))


def test_a_flight_stays_inside_the_picture_and_is_antialiased() -> None:
    picture = stripes(400, 100, 8)
    flight = Flight(picture, FlySettings(size=(40, 20), frames=5, zoom="0:(1), 4:(4)", x="0:(0), 4:(1)"))
    assert flight.crop_box(0) == (0, 0, 200, 100) and flight.crop_box(4) == (350, 37.5, 400, 62.5)
    assert np.asarray(flight(4)).min() >= 253
    lines = Image.fromarray(np.indices((400, 400))[1].astype("u1") % 2 * 255).convert("RGB")
    fine = np.asarray(Flight(lines, FlySettings(size=(20, 20), frames=1, zoom="1"))(0)).astype(float)
    assert abs(fine - 127.5).max() < 4  # antialiased: grey, and no moiré
    with pytest.raises(UserError, match="must be at least 1"):
        Flight(picture, FlySettings(zoom="0.5"))
    with pytest.raises(UserError, match="less than two pixels"):
        Flight(picture, FlySettings(zoom="1000"))
