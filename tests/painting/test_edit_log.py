"""Edit logs, also invalid ones from a stranger's picture."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.painting.edit_log import EditLog
from vqtools.painting.masks import Mask

MASK = Mask.from_source((0, 0, 8, 8), (16, 8))
EDIT = {"step": 2, "do": "edit", "settings": {"cutouts": 3}}
STROKE = {"step": 2, "do": "protect", "mask": MASK.name}
MASKS = {MASK.name: base64.b64encode(MASK.png).decode()}


def png(size: tuple[int, int], mode: str = "L") -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, "PNG")
    return data.getvalue()


def named(data: bytes) -> dict[str, str]:
    return {hashlib.sha256(data).hexdigest(): base64.b64encode(data).decode()}


def test_a_log_survives_its_record() -> None:
    log = EditLog()
    log.add(2, "edit", settings={"cutouts": 3})
    log.add(4, "protect", mask=MASK)
    log.add(5, "go", to=3, line=[0])
    log.add(3, "region", prompt=0, mask=None)
    again = EditLog.from_record(log.record())
    assert (again.entries, again.masks, again.active_entries) == (log.entries, log.masks, (0, 3))
    assert EditLog.from_record({}).active() == []


@pytest.mark.parametrize(
    "journal",
    [
        3,
        [3],
        [{"step": 1}],
        [{"step": 1, "do": "delete"}],
        [{"step": 1, "do": "_append"}, {"step": 1, "do": ["edit"]}, {"step": 1, "do": "protect", "mask": []}],
        [{**EDIT, "step": -1}],
        [{**EDIT, "step": 2**40}],
        [{**EDIT, "step": True}],
        [{**EDIT, "step": "2"}],
        [{**EDIT, "out": "/etc/passwd"}],
        [{**EDIT, "settings": {}}],
        [{**EDIT, "settings": {"size": [16, 16]}}],
        [{**EDIT, "settings": {"cutouts": 10**9}}],
        [{**EDIT, "settings": {"out": "x"}}],
        [EDIT, {**EDIT, "step": 1}],
        [{**STROKE, "mask": "0" * 64}],
        [{"step": 1, "do": "repaint", "mask": None, "fresh": True}],
        [{"step": 1, "do": "region", "prompt": "0", "mask": MASK.name}],
        [EDIT, {"step": 5, "do": "go", "to": 1, "line": [0]}],
        [EDIT, {"step": 5, "do": "go", "to": 3, "line": [7]}],
        [EDIT, {"step": 5, "do": "go", "to": 3, "line": [0, 0]}],
        [EDIT] * 6000,
    ],
)
def test_an_invalid_log_is_an_error_of_one_line(journal: Any) -> None:
    with pytest.raises(UserError) as caught:
        EditLog.from_record({"journal": journal, "masks": MASKS})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "masks",
    [
        3,
        {MASK.name: 3},
        {MASK.name: "no base64!"},
        {"0" * 64: MASKS[MASK.name]},
        named(b"no picture"),
        named(png((4096, 4096))),  # small as a file, large as a picture
        named(png((8, 8), "RGB")),
    ],
)
def test_invalid_masks_are_errors(masks: Any) -> None:
    with pytest.raises(UserError):
        EditLog.from_record({"journal": [], "masks": masks})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*EDIT, "mask", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
def test_any_json_is_a_log_or_a_user_error(journal: Any, masks: Any) -> None:
    with contextlib.suppress(UserError):
        EditLog.from_record({"journal": journal, "masks": masks})


def test_the_number_of_entries_is_limited() -> None:
    log = EditLog()
    log.entries = [EDIT] * 5000
    with pytest.raises(UserError, match="5000 edits"):
        log.add(1, "protect", mask=None)
