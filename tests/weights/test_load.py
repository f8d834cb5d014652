"""Networks by name."""

from __future__ import annotations

import pytest

from vqtools.core.errors import UserError
from vqtools.weights.load import load_network, mismatch_reason, resolve_path
from vqtools.weights.model_file import file_sha256


def test_a_network_is_loaded_once_and_knows_its_file() -> None:
    loaded = load_network("vqgan", "starter")
    assert load_network("vqgan", "starter").network is loaded.network
    assert loaded.path == resolve_path("vqgan", "starter") and loaded.sha256 == file_sha256(loaded.path)
    assert loaded.record == {"name": "starter", "sha256": loaded.sha256}


def test_the_starter_transformer_matches_the_starter_vqgan_and_clip() -> None:
    transformer = load_network("transformer", "starter")
    paths = {kind: resolve_path(kind, "starter") for kind in ("vqgan", "clip")}
    assert transformer.path is not None and mismatch_reason(transformer.path, paths) == ""
    assert "another clip" in mismatch_reason(transformer.path, paths | {"clip": paths["vqgan"]})


@pytest.mark.parametrize(
    ("name", "says"), [("startr", "did you mean 'starter'"), ("a/none.safetensors", "is not there")]
)
def test_an_unknown_network_is_a_user_error(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_network("vqgan", name)
