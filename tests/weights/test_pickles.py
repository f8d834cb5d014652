"""Files that run code, are broken, or are something else: none is opened, and the error names what it is."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqtools.core.errors import UserError
from vqtools.weights import convert
from vqtools.weights.convert import paths_by_name
from vqtools.weights.pickles import read_tensors

GOLDEN = Path(__file__).parents[1] / "golden"


def converted(source: Path, folder: Path) -> convert.Conversion:
    return convert.convert(source, paths_by_name(folder, "it"))


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.flag}",)


def refused(source: Path, says: str) -> None:
    before = source.read_bytes()
    folder = source.parent / "out"
    with pytest.raises(UserError) as caught:
        converted(source, folder)
    assert says in str(caught.value) and source.name in str(caught.value), caught.value
    assert "\n" not in str(caught.value)
    assert not folder.exists() and source.read_bytes() == before


def test_a_malicious_pickle_never_runs(tmp_path: Path) -> None:
    state = {"state_dict": {"a": torch.zeros(1)}, "callbacks": Evil(tmp_path / "ran")}
    torch.save(state, tmp_path / "evil.ckpt")
    refused(tmp_path / "evil.ckpt", "'posix.system'")
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps(state["callbacks"]))
    refused(tmp_path / "old.ckpt", "before version 1.6")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pt", "format of torch before version 1.6")
    assert not (tmp_path / "ran").exists()


def test_names_similar_to_those_of_trainers_are_refused(tmp_path: Path) -> None:
    # a pickle by hand, because the class is not there to be pickled
    body = b"\x80\x02cpytorch_lightning.callbacks.model_checkpoint\nos.system\n."
    with zipfile.ZipFile(tmp_path / "fake.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", "3\n")
    refused(tmp_path / "fake.ckpt", "pytorch_lightning.callbacks.model_checkpoint.os.system")


def test_stand_ins_are_removed_after_loading() -> None:
    before = set(torch.serialization.get_safe_globals())
    read_tensors(GOLDEN / "taming_vqmodel.ckpt")
    assert set(torch.serialization.get_safe_globals()) == before


def test_broken_and_foreign_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    whole = (GOLDEN / "taming_vqmodel.ckpt").read_bytes()
    cases = {
        "cut.ckpt": (whole[: len(whole) // 2], "incomplete or damaged"),
        "page.ckpt": (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        "empty.ckpt": (b"", "is empty"),
        "lfs.ckpt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        "noise.ckpt": (b"\x00\x01" * 300, "is not a checkpoint"),
        "cut.safetensors": ((GOLDEN / "diffusers_vq_io.safetensors").read_bytes()[:5000], "incomplete or damaged"),
    }
    for name, (content, says) in cases.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, says)
    with zipfile.ZipFile(tmp_path / "renamed.ckpt", "w") as archive:
        archive.writestr("photos/cat.txt", "meow")
    refused(tmp_path / "renamed.ckpt", "plain zip archive")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "script.pt"))
    refused(tmp_path / "script.pt", "TorchScript")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "contains no tensors of a network")
    torch.save({"encoder.conv_in.weight": torch.zeros(1).expand(1 << 40)}, tmp_path / "bomb.pt")
    refused(tmp_path / "bomb.pt", "not stored in full")
    torch.save({"decoder.weight": torch.zeros(1)}, tmp_path / "kl.pt")
    refused(tmp_path / "kl.pt", "no codebook")
    with pytest.raises(UserError, match="is not there"):
        read_tensors(tmp_path / "none.ckpt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint, as torch saves it."""
    path = tmp_path_factory.mktemp("small") / "small.ckpt"
    torch.save({"state_dict": {"a": torch.ones(3), "b": torch.zeros(2, 2)}}, path)
    return path


@given(position=st.integers(0, 10**6), noise=st.binary(min_size=1, max_size=40))
def test_a_damaged_checkpoint_gives_tensors_or_an_error_but_never_a_crash(
    checkpoint: Path, position: int, noise: bytes
) -> None:
    whole = checkpoint.read_bytes()
    position %= len(whole)
    broken = checkpoint.with_name("broken.ckpt")
    broken.write_bytes(whole[:position] + noise + whole[position + len(noise) :])
    with contextlib.suppress(UserError):
        assert all(isinstance(value, torch.Tensor) for value in read_tensors(broken).values())
