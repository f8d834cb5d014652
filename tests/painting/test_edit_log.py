"""Journals and inputs out of somebody else's picture."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.painting.edit_log import EditLog
from vqtools.painting.image_inputs import ImageInputs
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


def test_what_is_written_is_read() -> None:
    journal = EditLog()
    journal.add(2, "edit", settings={"cutouts": 3})
    journal.add(4, "protect", mask=MASK)
    journal.add(5, "go", to=3, line=[0])
    journal.add(3, "region", prompt=0, mask=None)
    again = EditLog.from_record(journal.record())
    assert (again.entries, again.masks, again.active_entries) == (journal.entries, journal.masks, (0, 3))
    assert EditLog.from_record({}).active() == []


@pytest.mark.parametrize(
    "journal",
    [
        3,
        [3],
        [{"step": 1}],
        [{"step": 1, "do": "delete"}],
        [{"step": 1, "do": "_take"}],
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
def test_a_journal_that_is_none_is_refused_in_one_line(journal: Any) -> None:
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
def test_masks_that_are_none_are_refused(masks: Any) -> None:
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
def test_any_json_is_a_journal_or_a_clear_error(journal: Any, masks: Any) -> None:
    with contextlib.suppress(UserError):
        EditLog.from_record({"journal": journal, "masks": masks})


def test_so_many_strokes_are_too_many() -> None:
    journal = EditLog()
    journal.entries = [EDIT] * 5000
    with pytest.raises(UserError, match="5000 edits"):
        journal.add(1, "protect", mask=None)


def test_a_strangers_picture_opens_no_file_unasked(tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    file.write_bytes(png((8, 8), "RGB"))
    fields = [
        {"init_image": str(file)}, {"style_image": str(file)}, {"prompt": f"picture:{file}"}, {"regions": f"1={file}"},
        {"protect": str(file)},
    ]  # fmt: skip
    records = [{"settings": one} for one in fields]
    records += [{"settings": {}, "journal": [{"step": 1, "do": "edit", "settings": one}]} for one in fields[1:3]]
    for record in [*records, {"settings": {}, "began": fields[0]}]:
        with pytest.raises(UserError, match=r"wants to read .*--trust-paths"):
            ImageInputs(record).picture(str(file))
        assert ImageInputs(record, trusted=True).picture(str(file)).size == (8, 8)
    assert ImageInputs({"settings": {"prompt": "a red apple"}}).picture(str(file)).size == (
        8,
        8,
    )  # the person's own wish
    strange = {"vqgan": "../model.safetensors", "clip": "starter | /tmp/clip", "transformer": "x.safetensors"}
    for kind, name in strange.items():
        with pytest.raises(UserError, match="--trust-paths"):
            ImageInputs({"settings": strange}).check_network_trusted(kind, name)
        ImageInputs({"settings": strange}, trusted=True).check_network_trusted(kind, name)
        ImageInputs().check_network_trusted(kind, name)
    public = {"settings": {"clip": "starter | ViT-B-32-quickgelu/openai:0.5"}}
    ImageInputs(public).check_network_trusted("clip", public["settings"]["clip"])


def test_small_inputs_travel_in_the_record(tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    Image.new("RGB", (8, 8), "red").save(file)
    inputs = ImageInputs()
    inputs.picture(str(file))
    record = {"settings": {"init_image": str(file)}, **inputs.record()}
    assert record["inputs"] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
    file.unlink()
    again = ImageInputs(record)
    assert again.picture(str(file)).getpixel((0, 0)) == (255, 0, 0)
    assert again.record() == inputs.record()
    forged = {**record, "embedded": {str(file): base64.b64encode(b"another").decode()}}
    with pytest.raises(UserError, match="broken"):
        ImageInputs(forged)


def test_large_inputs_are_known_by_their_hash(tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((768, 768), 90).save(file)
    inputs = ImageInputs()
    inputs.picture(str(file))
    assert list(inputs.record()["inputs"]) == [str(file)]
    assert inputs.record()["embedded"] == {}
