"""One process of a distributed run: some steps of the tiny training of test_distributed.py; rank 0 saves the result."""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from test_distributed import training

from vqtools.core.distributed import Distributed

if __name__ == "__main__":
    torch.set_num_threads(1)
    team = Distributed(Accelerator(cpu=True)) if "WORLD_SIZE" in os.environ else Distributed()
    job = training(team)
    reports = [job.step() for _ in range(6)]
    if team.rank == 0:
        told = {
            f"told.{i}.{name}": torch.tensor(value)
            for i, report in enumerate(reports)
            for name, value in report.items()
        }
        parts = {"vqgan": job.vqgan, "discriminator": job.discriminator}
        weights = {f"{part}.{k}": v for part, module in parts.items() for k, v in module.state_dict().items()}
        save_file({k: v.contiguous() for k, v in (told | weights).items()}, sys.argv[1])
    team.close()
