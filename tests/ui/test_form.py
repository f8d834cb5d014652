from __future__ import annotations

from typing import Literal

import ipywidgets as widgets
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vqtools.core.errors import UserError
from vqtools.core.settings import Settings, Size, option
from vqtools.painting.settings import PaintSettings
from vqtools.ui.form import Form


class Everything(Settings):
    """One field of each kind that settings can have."""

    words: str = option("a red apple", help="what to show")
    size: Size = option((64, 48), help="width and height", unit="pixels", ge=8, live=False)
    seed: int | None = option(None, help="draws one if empty", ge=0, lt=2**63)
    steps: int = option(3, help="how many", ge=1, le=100, group="advanced")
    rate: float = option(0.1, help="how fast", gt=0, group="advanced")
    pull: float | None = option(None, help="how strong", group="advanced")
    mirror: bool = option(False, help="left is right", group="advanced")
    manner: Literal["draft", "best"] = option("draft", help="how well")
    precision: Literal["auto", "fp32"] = option("auto", help="of the numbers", group="advanced")


everything = st.builds(
    Everything,
    words=st.text(max_size=50),
    size=st.tuples(st.integers(8, 4096), st.integers(8, 4096)),
    seed=st.none() | st.integers(0, 2**63 - 1),
    steps=st.integers(1, 100),
    rate=st.floats(1e-6, 1e6),
    pull=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    mirror=st.booleans(),
    manner=st.sampled_from(["draft", "best"]),
    precision=st.sampled_from(["auto", "fp32"]),
)


@given(expected=everything)
@example(expected=Everything(seed=0, pull=0.0))
@settings(max_examples=30, deadline=None)
def test_a_form_made_from_settings_returns_equal_settings(expected: Everything) -> None:
    assert Form(expected).settings() == expected


def test_loading_other_settings_replaces_every_field() -> None:
    form = Form(Everything())
    other = Everything(
        words="x", size=(16, 16), seed=5, steps=4, rate=2, pull=1.5, mirror=True, manner="best", precision="fp32"
    )
    form.load(other)
    assert form.settings() == other
    form.load(Everything())
    assert form.settings() == Everything()


def test_every_paint_setting_survives_the_form() -> None:
    changed = PaintSettings(
        prompt="a castle:2 | blur:-0.5", preset="best", size=(256, 128), iterations=7, seed=2**62, init_image="a.png",
        init_weight=0.5, vqgan="mine", clip="ViT-B-32/openai", transformer="none", grids=3, cutouts=5, cut_power=0.5,
        augment="Af", learning_rate=0.05, ema=0.9, group=2, precision="fp32", init_decay=0.5, init="noise",
            cut_method="pooled", optimiser="AdamW", smoothness=1, saturation=-1, palette="#ff0000", palette_weight=2,
            style_image="b.png", symmetry="both", seamless=True, regions="1=0,0,0.5,1", protect="0,0,1,0.5",
            drawer="pixels", checkpoint="on", compile=True, clip_precision="same", prior=0.5, guidance=2.5,
            top_p=0.5,
    )  # fmt: skip
    unchanged = [name for name, value in PaintSettings() if value == getattr(changed, name)]
    assert not unchanged
    assert Form(changed).settings() == changed


def note_of(form: Form[Everything], name: str) -> str:
    note = form.row(name).children[-1]
    return note.value if note.layout.display != "none" else ""


def is_marked(form: Form[Everything], name: str) -> bool:
    return "vqtools-wrong" in form.row(name)._dom_classes


@pytest.mark.parametrize(
    ("name", "bad", "good", "reason"),
    [
        ("steps", 0, 1, "1 to 100"),
        ("rate", float("nan"), 1.0, "finite"),
        ("rate", -1.0, 1.0, "more than 0"),
        ("seed", "<b>abc", "7", "whole number"),
        ("seed", "-3", "", "at least 0"),
        ("size", 2, 32, "at least 8"),
    ],
)
def test_a_wrong_value_is_marked_until_it_is_corrected(name: str, bad: object, good: object, reason: str) -> None:
    form = Form(Everything())
    form.inputs(name)[0].value = bad
    assert is_marked(form, name) and reason in note_of(form, name)
    assert "<b>" not in note_of(form, name)
    others = [option.name for option in Everything.options() if option.name != name]
    assert not any(is_marked(form, other) for other in others)
    with pytest.raises(UserError, match=name):
        form.settings()
    form.inputs(name)[0].value = good
    assert not is_marked(form, name) and note_of(form, name) == ""
    form.settings()


def test_notes_are_escaped_and_can_be_cleared() -> None:
    form = Form(Everything())
    form.note("steps", "from the <b>next</b> run")
    assert note_of(form, "steps") == "from the &lt;b&gt;next&lt;/b&gt; run" and not is_marked(form, "steps")
    form.clear_notes()
    assert note_of(form, "steps") == ""


def test_on_change_reports_only_changes_by_a_person() -> None:
    changed: list[str] = []
    form = Form(Everything(), on_change=changed.append)
    form.set(steps=5)
    form.load(Everything(steps=6))
    assert changed == []
    form.inputs("steps")[0].value = 7
    form.inputs("size")[1].value = 64
    assert changed == ["steps", "size"]


def test_the_new_button_draws_a_seed() -> None:
    form = Form(Everything())
    row = form.row("seed").children[0]
    row.children[-1].click()
    first = form.settings().seed
    row.children[-1].click()
    assert first is not None and form.settings().seed != first


def test_groups_are_folded_and_named_and_help_is_on_hover() -> None:
    form = Form(Everything(), apart=("words",))
    (accordion,) = [child for child in form.body.children if isinstance(child, widgets.Accordion)]
    assert accordion.selected_index is None and accordion.get_title(0) == "advanced"
    assert form.row("words") not in form.body.children
    assert 'title="how many (1 to 100)"' in form.row("steps").children[1].value
