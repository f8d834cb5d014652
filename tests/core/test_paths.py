"""File names made from prompts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vqtools.core.paths import file_stem


def test_a_file_name_is_made_from_prompt_and_seed() -> None:
    assert file_stem("A red apple!", 42) == "a-red-apple-42"
    assert file_stem("../../etc/passwd | CON:2", 1) == "etc-passwd-con-2-1"
    assert file_stem("¿?", 7) == "picture-7"
    assert file_stem("赤いりんご", 7) == "赤いりんご-7"


@given(st.text(), st.integers(0, 2**63))
def test_a_file_name_is_short_and_has_only_letters_digits_and_dashes(prompt: str, seed: int) -> None:
    stem = file_stem(prompt, seed)
    assert len(stem.encode("utf-8")) <= 190
    assert all(letter.isalnum() or letter == "-" for letter in stem)
    assert not stem.startswith("-")
