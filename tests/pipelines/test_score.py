"""Scoring pictures with tiny networks: the likelihood that sampling reports, bits per code and the heat map."""

import math
from pathlib import Path

import pytest
from PIL import Image

import vqtools
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.pipelines.sample import create_sample_job
from vqtools.pipelines.score import create_score_job
from vqtools.sampling.condition import Condition
from vqtools.sampling.likelihood import Scorer
from vqtools.sampling.settings import SampleSettings, ScoreSettings

PICTURES = sorted((Path(__file__).parents[1] / "pictures").glob("*.webp"))
pytestmark = pytest.mark.usefixtures("sampling_home")


@pytest.mark.parametrize("transformer", ["plain", "holes", "classes"])
def test_the_score_is_the_likelihood_the_sampler_reports(transformer: str) -> None:
    fields = {"vqgan": "tiny", "transformer": transformer, "seed": 3, "size": (40, 24), "top_p": 1.0, "guidance": 1.0}
    one = create_sample_job(SampleSettings.parse(fields))
    nats = sum(one.step()["nats per code"] * len(one.sampler.waves[one.position - 1]) for _ in range(one.total))
    gpt, codes = one.gpt, one.codes
    context = one.sampler.context
    scorer = finish(Scorer(gpt, codes, Condition(context.prefix, spatial=context.spatial)))
    assert math.isclose(float(scorer.nats.sum()), nats, rel_tol=1e-4)
    assert bool((scorer.nats > 0).all())


def test_a_score_has_bits_and_a_heat_map() -> None:
    scored = vqtools.score(PICTURES[0], transformer="plain", vqgan="tiny", stride=2)
    width, height = scored.image.size
    assert scored.nats.shape == (1, height // 4, width // 4)
    assert scored.bits == pytest.approx(float(scored.nats.mean()) / math.log(2))
    assert scored.heat_map().size == (2 * width, height)
    with pytest.raises(UserError, match="smaller than one code"):
        create_score_job(Image.new("RGB", (3, 40)), ScoreSettings(transformer="plain", vqgan="tiny"))
