"""State files: every value survives, a failed save changes nothing, foreign files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vqtools.core.errors import UserError
from vqtools.core.state_file import load_state, save_state


def test_a_saved_state_is_loaded_unchanged(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    state = {
        "adam": {0: {"step": torch.tensor(3.0), "m": shared}, 1: {"m": shared[1:]}},
        "names": ["a", ("b", 2)], "best": float("inf"), "none": None, "flag": True, "empty": torch.zeros(0),
        "transposed": torch.arange(6).reshape(2, 3).T, "nested": {"$": "odd"}, "text": "é\n",
    }  # fmt: skip
    back = load_state(save_state(tmp_path / "deep" / "s", state))
    assert list(back) == list(state)
    assert torch.equal(back["adam"][0]["m"], shared) and torch.equal(back["adam"][1]["m"], shared[1:])
    assert back["adam"][0]["step"].shape == () and back["empty"].shape == (0,)
    assert torch.equal(back["transposed"], state["transposed"])
    for name in ("names", "best", "none", "flag", "nested", "text"):
        assert back[name] == state[name]


def test_a_failed_save_leaves_the_old_state_and_nothing_else(tmp_path: Path) -> None:
    path = save_state(tmp_path / "s", {"position": 1})
    with pytest.raises(TypeError, match=r"state\.what is a object"):
        save_state(path, {"what": object()})
    assert load_state(path) == {"position": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_file_that_is_not_a_state_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        load_state(tmp_path / "absent")
    broken = tmp_path / "broken"
    broken.write_bytes(save_state(tmp_path / "s", {"a": torch.zeros(9)}).read_bytes()[:-8])
    with pytest.raises(UserError, match="broken"):
        load_state(broken)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="is not a saved run"):
        load_state(tmp_path / "foreign")
