"""Conditions of transformers: captions, classes, start codes, masked codes, and none."""

import pytest
import torch

from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.sampling.condition import (
    Condition,
    caption_condition,
    check_condition,
    class_condition,
    class_index,
    condition_from_settings,
    embed_condition,
    empty_condition,
    mask_codes,
)
from vqtools.sampling.settings import SampleSettings, ScoreSettings
from vqtools.weights.load import load_clip

SHAPE = {"vocab_size": 13, "layers": 1, "heads": 2, "width": 16, "grid": 4}
CPU = torch.device("cpu")
CONFIGS = {
    "start": GPTConfig(**SHAPE, block_size=17, prefix_codes=1, codes=12),
    "holes": GPTConfig(**SHAPE, block_size=32, prefix_codes=16, codes=12, mask_code=12),
    "pairs": GPTConfig(**SHAPE, block_size=32, prefix_codes=16, codes=12),
    "classes": GPTConfig(**SHAPE, block_size=17, classes=3, codes=12, class_names=("cat", "dog", "moon")),
    "labels": GPTConfig(**SHAPE, block_size=17, prefix_codes=1, classes=10, codes=12),
    "captions": GPTConfig(**SHAPE, block_size=18, text_dim=384, text_tokens=2, codes=12),
    "both": GPTConfig.for_infilling(12, 4, 2, layers=1, heads=2, width=16, text_dim=384, text_tokens=2),
}


def network(name: str) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(CONFIGS[name]).eval().requires_grad_(False)
    for p in gpt.parameters():
        p.normal_(0, 0.6)
    return gpt


def test_expand_repeats_single_rows_and_keeps_full_parts() -> None:
    condition = Condition(torch.rand(1, 2, 16), torch.rand(3, 2, 16), torch.zeros(1, 4, 4, dtype=torch.int64))
    expanded = condition.expand(3)
    assert [len(part) for part in expanded if part is not None] == [3, 3, 3]
    assert condition.prefix is not None and expanded.prefix is not None
    assert torch.equal(expanded.prefix[2], condition.prefix[0]) and expanded.unconditional is condition.unconditional


def test_guidance_stacks_the_unconditional_rows_below_the_others() -> None:
    prefix, nothing = torch.rand(2, 3, 16), torch.rand(2, 3, 16)
    codes = torch.arange(32).view(2, 4, 4)
    stacked = Condition(prefix, nothing, codes).with_guidance()
    assert stacked.prefix is not None and stacked.spatial is not None
    assert torch.equal(stacked.prefix, torch.cat([prefix, nothing]))
    assert torch.equal(stacked.spatial, torch.cat([codes, codes]))
    assert Condition(prefix).with_guidance() == Condition(prefix)


def test_an_empty_condition_has_no_main_part() -> None:
    with pytest.raises(ValueError, match="prefix or spatial codes"):
        _ = Condition().main


@pytest.mark.parametrize("name", ["start", "classes", "captions"])
def test_the_empty_condition_fills_the_prefix(name: str) -> None:
    gpt = network(name)
    condition = empty_condition(gpt, CPU)
    assert condition.main.shape == (1, gpt.config.prefix_length, 16) and condition.spatial is None


def test_the_empty_condition_of_spatial_codes_or_needed_classes_has_no_parts() -> None:
    for name in ("holes", "pairs", "labels"):
        assert empty_condition(network(name), CPU) == Condition()


@pytest.mark.parametrize("name", ["captions", "both"])
def test_a_caption_has_rows_for_texts_or_styles(name: str) -> None:
    gpt, clip = network(name), load_clip("starter")
    two = caption_condition(gpt, clip, ["a tree", "a dog"])
    assert two.prefix is not None and two.unconditional is not None and two.prefix.shape == two.unconditional.shape
    assert len(two.prefix) == 2 and not torch.equal(two.prefix[0], two.prefix[1])
    styles = caption_condition(gpt, clip, ["a tree"], torch.zeros(3, dtype=torch.int64))
    assert styles.prefix is not None and len(styles.prefix) == 3
    torch.testing.assert_close(styles.prefix[2], two.prefix[0])


def test_a_class_is_found_by_name_or_index() -> None:
    gpt = network("classes")
    assert class_index(gpt, "dog") == class_index(gpt, "1") == 1
    with pytest.raises(UserError, match="there is no class 'horse'; there are cat, dog, moon"):
        class_index(gpt, "horse")
    dog = class_condition(gpt, "dog", CPU)
    assert dog.prefix is not None and torch.equal(dog.prefix, gpt.embed_class(torch.tensor([1])))
    assert dog.unconditional is not None and torch.equal(dog.unconditional, gpt.embed_class(torch.tensor([3])))


def test_a_transformer_without_an_empty_class_needs_a_label() -> None:
    with pytest.raises(UserError, match="needs a class; there are 0 to 9"):
        class_condition(network("labels"), "", CPU)


def test_unknown_cells_have_the_mask_code() -> None:
    gpt, codes = network("holes"), torch.arange(4).view(1, 2, 2)
    assert mask_codes(gpt, codes, torch.tensor([[True, False], [False, True]])).tolist() == [[[0, 12], [12, 3]]]
    assert mask_codes(gpt, codes).tolist() == [[[12, 12], [12, 12]]]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("start", {"prompt": "a tree"}, "reads no captions; omit it"),
        ("start", {"label": "dog"}, "has no classes; omit it"),
        ("holes", {"condition": "depth.png"}, "reads no other picture; omit it"),
        ("pairs", {}, "reads another picture's codes; name that picture"),
    ],
)
def test_settings_that_do_not_fit_the_transformer_raise_an_error(
    name: str, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_condition(network(name), SampleSettings.parse(fields))


def test_settings_without_prompt_or_label_give_the_empty_condition() -> None:
    for name in ("start", "classes", "captions", "holes"):
        gpt = network(name)
        for settings in (SampleSettings(), ScoreSettings()):
            built, empty = condition_from_settings(gpt, settings, CPU), empty_condition(gpt, CPU)
            assert [part is None for part in built] == [part is None for part in empty]
            assert built.prefix is None or torch.equal(built.prefix, empty.prefix)


def test_training_drops_captions_and_classes_but_not_codes() -> None:
    every = torch.tensor([True, True])
    gpt = network("classes")
    nothing = embed_condition(gpt, label=torch.tensor([0, 1]), dropped=every)
    assert torch.equal(nothing, gpt.embed_class(torch.tensor([3, 3])))
    gpt = network("both")
    caption = CaptionEmbedding(torch.rand(2, 384), torch.zeros(2, 0, 0), torch.zeros(2, dtype=torch.int64))
    codes = torch.randint(12, (2, 16))
    tokens = embed_condition(gpt, caption, codes, dropped=every)
    assert torch.equal(tokens[:, :2], gpt.no_caption.expand(2, -1, -1))
    assert torch.equal(tokens[:, 2:], gpt.embed_prefix_codes(codes))
