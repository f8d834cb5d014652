"""The codebook: nearest codes, gradients, moving averages, k-means and revival."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from vector_quantize_pytorch import VectorQuantize

from vqtools.models.quantizers import VectorQuantizer, codebook_usage, kmeans, nearest_codes, straight_through

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_nearest_code_has_the_smallest_distance() -> None:
    torch.manual_seed(0)
    vectors, codebook = torch.randn(50, 3), torch.randn(7, 3)
    assert torch.equal(nearest_codes(vectors, codebook), torch.cdist(vectors, codebook).argmin(1))


@pytest.mark.parametrize("legacy", [True, False])
def test_loss_and_gradients_equal_the_reference(legacy: bool) -> None:
    stored = load_file(GOLDEN / "taming_quantizer_loss.safetensors")
    quantizer = VectorQuantizer(64, 16, legacy=legacy)
    quantizer.embedding.weight.data.copy_(stored["codebook"])
    latents = stored["latent"].clone().requires_grad_()
    loss = quantizer(latents).loss
    loss.backward()
    torch.testing.assert_close(loss, stored[f"loss_legacy_{legacy}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(latents.grad, stored[f"grad_latent_legacy_{legacy}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        quantizer.embedding.weight.grad, stored[f"grad_codebook_legacy_{legacy}"], rtol=0, atol=1e-6
    )


def test_straight_through_returns_the_code_and_passes_the_gradient_to_the_input() -> None:
    vectors = torch.tensor([1.0, 2.0], requires_grad=True)
    out = straight_through(vectors, torch.tensor([5.0, 7.0]))
    out.mul(torch.tensor([3.0, 4.0])).sum().backward()
    assert torch.equal(out, torch.tensor([5.0, 7.0]))
    assert torch.equal(vectors.grad, torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_codes_and_moving_averages_equal_vector_quantize_pytorch(metric: str) -> None:
    torch.manual_seed(0)
    ours = VectorQuantizer(12, 4, metric=metric, ema_decay=0.8)
    theirs = VectorQuantize(
        dim=4, codebook_size=12, decay=0.8, eps=1e-5, use_cosine_sim=metric == "cosine", accept_image_fmap=True
    )
    start = torch.randn(12, 4)
    start = F.normalize(start, dim=1) if metric == "cosine" else start
    ours.embedding.weight.data.copy_(start)
    ours.embed_sum.copy_(start)
    book = theirs._codebook
    book.embed.data.copy_(start[None])
    book.embed_avg.data.copy_(start[None])
    book.cluster_size.data.fill_(1)
    latents = torch.randn(2, 4, 5, 6)
    theirs.train()
    quantized, codes, _ = theirs(latents)
    answer = ours(latents)
    assert torch.equal(answer.codes, codes)
    torch.testing.assert_close(answer.latents, quantized)
    ours.ema_update(latents, answer.codes)
    torch.testing.assert_close(ours.embedding.weight, book.embed[0], rtol=1e-4, atol=1e-5)


def test_cosine_codes_have_unit_length_for_any_stored_weight() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 3, metric="cosine")
    quantizer.embedding.weight.data.mul_(50)
    latents = torch.randn(1, 3, 4, 4) * 9
    out = quantizer(latents)
    torch.testing.assert_close(out.latents.norm(dim=1), torch.ones(1, 4, 4))
    assert torch.equal(out.codes, quantizer(latents / 100).codes)


def test_kmeans_finds_separate_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    vectors = (centres[:, None] + 0.1 * torch.randn(3, 40, 2, generator=generator)).reshape(-1, 2)
    # a good start is a matter of the draw: the best of a few
    errors = [torch.cdist(vectors, kmeans(vectors, 3, generator)).amin(1).max() for _ in range(8)]
    assert min(errors) < 1
    with pytest.raises(ValueError, match="at least 9 vectors, got 4"):
        kmeans(vectors[:4], 9, generator)


def test_dead_codes_restart_at_latents() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 2, ema_decay=0.5)
    quantizer.embedding.weight.data.copy_(torch.full((8, 2), 100.0) + torch.arange(8.0)[:, None])
    quantizer.embed_sum.copy_(quantizer.embedding.weight)
    latents = torch.randn(4, 2, 8, 8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        quantizer.ema_update(latents, quantizer(latents).codes, generator, revive_below=0.6)
    share, spread = codebook_usage(quantizer(latents).codes, 8)
    assert share == 1.0 and spread > 3


def test_the_perplexity_of_uniform_use_is_the_number_of_codes() -> None:
    share, spread = codebook_usage(torch.arange(4).repeat(5), 8)
    assert share == 0.5
    assert spread == pytest.approx(4)
