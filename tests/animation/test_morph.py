"""A morph passes through its pictures and interpolates between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.animation.conftest import tiny_vqgan
from vqtools.animation.morph import Morph
from vqtools.animation.settings import MorphSettings
from vqtools.core.errors import UserError
from vqtools.media.image import to_picture, to_tensor


def stripes(width: int, height: int, columns: int) -> Image.Image:
    x = np.arange(width) * columns // width
    return Image.fromarray(np.broadcast_to((x * 255 // (columns - 1))[None, :, None], (height, width, 3)).astype("u1"))


def test_a_morph_holds_its_pictures_and_interpolates_linearly_between() -> None:
    vqgan, first, second = tiny_vqgan(), stripes(32, 16, 4), stripes(32, 16, 2).rotate(180)
    morph = Morph([first, second], vqgan, MorphSettings(size=(32, 16), frames=9, hold=0.25))
    with torch.no_grad():
        a, b = (vqgan.codes_to_latents(vqgan.encode(to_tensor(picture))) for picture in (first, second))
        expected = [vqgan.decode_latents(z).clamp(-1, 1) for z in (a, b, (a + b) / 2)]
    for frame, picture in zip((0, 8, 4), expected, strict=True):
        assert np.array_equal(np.asarray(morph(frame)), np.asarray(to_picture(picture)))
    assert morph(1).tobytes() == morph(0).tobytes() != morph(2).tobytes()  # it stands a while


def test_whole_codes_quantize_and_a_loop_returns_to_the_first() -> None:
    pictures = [stripes(32, 16, 4), stripes(32, 16, 2), stripes(32, 16, 8)]
    vqgan = tiny_vqgan()
    quantized = Morph(pictures, vqgan, MorphSettings(size=(32, 16), frames=12, whole_codes=True, loop=True))
    with torch.no_grad():
        whole = vqgan.decode(vqgan.encode(to_tensor(pictures[1]))).clamp(-1, 1)
    assert np.array_equal(np.asarray(quantized(4)), np.asarray(to_picture(whole)))
    assert (
        quantized.position_at(0) == (0, 0.0)
        and quantized.position_at(8) == (2, 0.0)
        and quantized.position_at(11)[0] == 2
    )
    with pytest.raises(UserError, match="two or more"):
        Morph(pictures[:1], vqgan, MorphSettings())
