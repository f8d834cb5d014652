"""Stage 2 on a tiny transformer: training, resuming, and two processes that equal one."""

import copy
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_distributed import processes

from vqtools.core.distributed import Distributed
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.training.settings import TransformerStageSettings
from vqtools.training.transformer_stage import (
    CodeBatch,
    TransformerStage,
    batch_prefix,
    muon_parameters,
    negative_log_likelihood,
    parameter_groups,
    scale_residual_init,
    target_mask,
)

SHAPE = {"layers": 2, "heads": 2, "width": 16}
HOLES = GPTConfig.for_infilling(8, 4, patch=2, **SHAPE)
CLASSES = GPTConfig(vocab_size=8, grid=4, classes=3, block_size=17, **SHAPE)
CAPTIONS = GPTConfig.for_infilling(8, 4, text_dim=6, text_tokens=2, words=3, word_dim=5, dropout=0.2, **SHAPE)
START = GPTConfig(vocab_size=8, grid=4, prefix_codes=1, block_size=17, **SHAPE)
COPY = GPTConfig(vocab_size=8, grid=4, prefix_codes=16, n_unmasked=16, block_size=32, **SHAPE)


def batch_for(config: GPTConfig, count: int = 8) -> Any:
    """Step -> stripes whose colours follow from the first, with whatever the config's condition is."""

    def batch(step: int) -> CodeBatch:
        draws = torch.Generator().manual_seed(step)
        first = torch.randint(8, (count, 1), generator=draws)
        codes = (first + torch.arange(16) // 4) % 8
        condition = label = caption = None
        if config.mask_code >= 0:
            hidden = torch.rand(count, 16, generator=draws) < torch.rand(count, 1, generator=draws)
            condition = torch.where(hidden, config.mask_code, codes)
        elif config.prefix_codes == 16:
            condition = codes
        elif config.prefix_codes == 1:
            condition = torch.zeros(count, 1, dtype=torch.int64)
        if config.classes:
            label = first[:, 0] % 3
        if config.text_dim:
            one = torch.nn.functional.one_hot(first[:, 0] % 6, 6).float()
            caption = CaptionEmbedding(one, one[:, None, :5].repeat(1, 3, 1), torch.zeros(count, dtype=torch.int64))
        return CodeBatch(codes, condition, label, caption)

    return batch


def training(config: GPTConfig = HOLES, team: Distributed | None = None, **options: Any) -> TransformerStage:
    torch.manual_seed(0)
    gpt = GPT(config)
    scale_residual_init(gpt)
    short = {"steps": 60, "warmup": 5, "learning_rate": 1e-2, "ema": 0.9}
    return TransformerStage(TransformerStageSettings(**short | options), gpt, batch_for(config), team=team)


@pytest.mark.parametrize(
    "config", [START, CLASSES, CAPTIONS, COPY, HOLES], ids=["start", "class", "text", "copy", "holes"]
)
def test_training_lowers_the_loss(config: GPTConfig) -> None:
    job = training(config)
    held = [batch_for(config)(1000)]
    before = job.measure(held)
    losses = [job.step()["loss"] for _ in range(60)]
    assert abs(before - math.log(8)) < 0.2
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert job.measure(held) < 0.6 * before


def test_codes_of_another_picture_are_learned_as_a_condition() -> None:
    job = training(COPY, steps=150)
    for _ in range(150):
        job.step()
    assert job.measure([batch_for(COPY)(999)]) < 0.1


@pytest.mark.parametrize("options", [{}, {"pkeep": 0.8, "accumulate": 2}, {"optimiser": "muon"}], ids=str)
def test_a_resumed_stage_gives_the_same_bits(options: dict[str, Any]) -> None:
    if options.get("optimiser") == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    whole, first = training(CAPTIONS, **options), training(CAPTIONS, **options)
    expected = [whole.step() for _ in range(30)]
    for _ in range(10):
        first.step()
    state = copy.deepcopy(first.state_dict())
    torch.rand(7)  # what others draw in between
    again = training(CAPTIONS, **options)
    again.load_state_dict(state)
    assert [again.step() for _ in range(20)] == expected[10:]
    assert all(torch.equal(a, b) for a, b in zip(again.ema.parameters(), whole.ema.parameters(), strict=True))


def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = processes(2, tmp_path / "two.safetensors", "distributed_transformer_run.py")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        job = training(HOLES, pkeep=0.9, learning_rate=1e-3)
        reports = [job.step() for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    for i, report in enumerate(reports):
        for name, value in report.items():
            assert found[f"told.{i}.{name}"].item() == pytest.approx(value, rel=1e-5, abs=1e-5), (i, name)
    for name, tensor in job.gpt.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_accumulated_parts_equal_the_whole_batch() -> None:
    whole, parts = training(HOLES), training(HOLES, accumulate=3)
    for _ in range(3):
        assert whole.step()["loss"] == pytest.approx(parts.step()["loss"], rel=1e-5)


def test_only_codes_in_holes_count() -> None:
    batch = batch_for(HOLES)(1)
    cells = target_mask(batch, HOLES)
    assert 0 < int(cells.sum()) < cells.numel()
    job = training(HOLES)
    lost = negative_log_likelihood(job.ema, batch)
    assert job.measure([batch]) == pytest.approx(float(lost[cells].mean()), rel=1e-5)


def test_a_dropped_condition_is_the_empty_one() -> None:
    for config in (CLASSES, CAPTIONS):
        gpt, batch = training(config).ema, batch_for(config)(2)
        every = torch.ones(8, dtype=torch.bool)
        first = batch_prefix(gpt, batch, every)[:, : max(1, config.caption_tokens)]
        assert torch.equal(first, first[:1].expand_as(first))
        kept = batch_prefix(gpt, batch, ~every)[:, : max(1, config.caption_tokens)]
        assert not torch.equal(kept, kept[:1].expand_as(kept))
        torch.testing.assert_close(kept, batch_prefix(gpt, batch)[:, : max(1, config.caption_tokens)])


def test_pkeep_replaces_input_codes_but_not_targets() -> None:
    job = training(START, pkeep=0.5)
    whole = job.batch(0)
    batch, _, seen = job.prepare_batch(whole)
    assert torch.equal(batch.codes, whole.codes)
    assert seen is not None and 0.2 < float((seen != whole.codes).float().mean()) < 0.7


def test_only_matrices_have_weight_decay() -> None:
    gpt = GPT(CAPTIONS)
    decayed, rest = parameter_groups(gpt, 0.1)
    names = {id(p): n for n, p in gpt.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and rest["weight_decay"] == 0
    assert len(decayed["params"]) + len(rest["params"]) == len(names)
    assert all(p.ndim == 2 and "emb" not in names[id(p)] for p in decayed["params"])
    assert {"tok_emb.weight", "pos_emb", "ln_f.weight", "blocks.0.attn.key.bias"} <= {
        names[id(p)] for p in rest["params"]
    }
    assert all(names[id(p)].startswith("blocks.") for p in muon_parameters(gpt))


def test_the_learning_rate_warms_up_and_decays() -> None:
    job = training()
    rates = []
    for job.position in range(60):
        rates.append(job.lr_factor())
    assert rates[0] == pytest.approx(0.2) and max(rates) == 1.0 == rates[4]
    assert rates[-1] < 0.03 and rates == [*sorted(rates[:5]), *sorted(rates[5:], reverse=True)]


def test_dropout_leaves_the_global_generator_unchanged() -> None:
    job = training(CAPTIONS)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    job.step()
    assert torch.equal(torch.rand(1), expected)
