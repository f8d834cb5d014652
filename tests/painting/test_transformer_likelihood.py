"""Predictions of a transformer for the prior: equal to the score, with the caption it can read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.models.gpt import GPT, GPTConfig
from vqtools.painting.prior import TransformerLikelihood
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_paint_job
from vqtools.pipelines.paint_job import PaintJob
from vqtools.sampling.condition import Condition
from vqtools.sampling.likelihood import Scorer
from vqtools.weights.load import load_vqgan
from vqtools.weights.model_file import save_model

CPU = Machine(device=torch.device("cpu"), precision="fp32", threads=1)
SHAPE = {"vocab_size": 12, "block_size": 40, "layers": 2, "heads": 2, "width": 16, "grid": 4}
CONFIGS = {
    "start": GPTConfig(**SHAPE, prefix_codes=1),
    "holes": GPTConfig(**{**SHAPE, "vocab_size": 13}, codes=12, prefix_codes=16, mask_code=12),
    "classes": GPTConfig(**SHAPE, classes=3, learned_positions=False, rotary=True, llama=True),
    "captions": GPTConfig(**SHAPE, text_dim=8),
}
QUICK = {"prompt": "a red apple", "size": (64, 64), "iterations": 3, "cutouts": 2, "grids": 2, "seed": 1}


def network(config: GPTConfig) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(config).eval().requires_grad_(False)
    for p in gpt.parameters():
        if p.ndim > 1:
            p.normal_(0, 0.6)
    return gpt


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("height", "width"), [(9, 6), (4, 4), (3, 2)])
def test_every_cell_is_predicted_once_as_in_the_score(kind: str, height: int, width: int) -> None:
    gpt = network(CONFIGS[kind])
    codes = torch.randint(12, (1, height, width), generator=torch.Generator().manual_seed(2))
    nats, seen = torch.full((height, width), torch.nan), []
    for cells, log_p in TransformerLikelihood(lambda: (gpt, None), CPU)(codes, "a tree"):
        assert log_p.shape == (len(cells), 12)
        assert torch.allclose(log_p.exp().sum(1), torch.ones(len(cells)))
        for (row, column), one in zip(cells, log_p, strict=True):
            nats[row, column] = -one[codes[0, row, column]]
        seen += cells
    assert sorted(seen) == [(row, column) for row in range(height) for column in range(width)]
    condition = {
        "start": lambda: Condition(gpt.embed_prefix_codes(torch.zeros(1, 1, dtype=torch.int64))),
        "holes": lambda: Condition(spatial=torch.full_like(codes, 12)),
        "classes": lambda: Condition(gpt.embed_class(torch.tensor([3]))),
        "captions": lambda: Condition(gpt.no_caption),
    }[kind]()
    scorer = Scorer(gpt, codes, condition, (2, 2))
    while scorer.position < scorer.total:
        scorer.step()
    assert torch.allclose(nats, scorer.nats[0], atol=1e-4)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (GPTConfig(**SHAPE), "first code"),
        (GPTConfig(**SHAPE, prefix_codes=16), "another picture"),
        (GPTConfig(**SHAPE, prefix_codes=1, classes=3), "a class"),
    ],
)
def test_an_unsuitable_transformer_raises_an_error(config: GPTConfig, says: str) -> None:
    likelihood = TransformerLikelihood(lambda: (network(config), None), CPU)
    with pytest.raises(UserError, match=says):
        next(likelihood(torch.zeros(1, 4, 4, dtype=torch.int64), "a tree"))


def run(job: PaintJob) -> PaintJob:
    while job.position < job.total:
        job.step()
    return job


def test_the_starter_reads_the_prompt_and_is_recorded_once_used() -> None:
    job = create_paint_job(PaintSettings(**QUICK, init="codes"))
    assert "transformer" not in job.models and job.painter is not None
    job.step()
    job.settings = job.settings.model_copy(update={"prior": 0.5})  # as a hand does in mid-run
    assert job.step()["prior"] > 0
    assert job.record()["models"]["transformer"]["name"] == "starter"
    codes = torch.zeros(1, 8, 8, dtype=torch.int64)
    assert job.likelihood is not None
    told = ("a dog", "blur:-1 | a dog", "a red car")
    one, same, other = (next(job.likelihood(codes, prompt))[1] for prompt in told)
    assert torch.equal(one, same) and not torch.equal(one, other)
    wider = torch.zeros(1, 8, 13, dtype=torch.int64)  # than the window: no part of it is the whole subject
    one, same, other = (next(job.likelihood(wider, prompt))[1] for prompt in told)
    assert torch.equal(one, other)


def test_a_resumed_painting_with_a_prior_gives_the_same_bits() -> None:
    settings = PaintSettings(**QUICK, init="codes", prior=0.5)
    job, again = (create_paint_job(settings) for _ in range(2))
    job.step()
    again.load_state_dict(job.state_dict())
    assert run(job).picture().tobytes() == run(again).picture().tobytes()
    off = create_paint_job(settings.model_copy(update={"prior": 0.0}))
    assert run(off).picture().tobytes() != job.picture().tobytes()


def test_a_transformer_of_another_vqgan_raises_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vqgan = load_vqgan("starter")
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    tensors = {name: value + 0.01 for name, value in vqgan.state_dict().items()}
    save_model(tmp_path / "mine.safetensors", "vqgan", vqgan.config.to_dict(), tensors)
    with pytest.raises(UserError, match="trained with this VQGAN"):
        create_paint_job(PaintSettings(**QUICK, vqgan="mine", init="codes", prior=1))
    with pytest.raises(UserError, match="needs a transformer"):
        create_paint_job(PaintSettings(**QUICK, transformer="none", prior=1))
    create_paint_job(PaintSettings(**QUICK, vqgan="mine", init="codes"))
