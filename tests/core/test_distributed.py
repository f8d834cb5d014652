"""Collective operations; tests/training/test_distributed.py runs them in real processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vqtools.core.distributed import Distributed


def test_operations_of_a_single_process_change_nothing() -> None:
    team = Distributed()
    batch = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(team.shard(batch), batch) and torch.equal(team.gather(batch), batch)
    assert team.broadcast("a") == "a" and team.any_process(True) and not team.any_process(False)
    team.all_reduce_mean([batch])
    assert torch.equal(batch, torch.arange(6.0).reshape(3, 2))


def test_gather_restores_the_order_of_the_shards() -> None:
    batch = torch.arange(12).reshape(6, 2)
    shards = []
    for rank in range(3):
        team = Distributed(SimpleNamespace(process_index=rank, num_processes=3))
        shards.append(team.shard(batch))
    team.accelerator.gather = lambda shard: torch.cat(shards)
    assert torch.equal(team.gather(shards[2]), batch)


def test_a_batch_that_size_does_not_divide_is_an_error() -> None:
    team = Distributed()
    team.size = 3
    with pytest.raises(ValueError, match="8 cannot be divided evenly among 3"):
        team.shard(torch.zeros(8, 1))
