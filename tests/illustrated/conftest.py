"""Fixtures of the illustrated figures: the starter networks and pictures of the notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from vqtools.illustrated.pictures import open_picture, open_pictures
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.weights.load import load_clip, load_transformer, load_vqgan

ZIP = Path(__file__).parents[2] / "notebooks" / "watercolours.zip"


@pytest.fixture(scope="session")
def vqgan() -> VQGAN:
    return load_vqgan("starter")


@pytest.fixture(scope="session")
def gpt() -> GPT:
    return load_transformer("starter")


@pytest.fixture(scope="session")
def clip() -> CLIP:
    return load_clip("starter")


@pytest.fixture(scope="session")
def oranges() -> Tensor:
    return open_picture(f"{ZIP}/oranges-POM00006472.webp", 96)


@pytest.fixture(scope="session")
def fruit() -> Tensor:
    return open_pictures(str(ZIP), 96, count=8)
