"""One process of a distributed run: some steps of the tiny training of test_transformer_stage.py; rank 0 saves it."""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from test_transformer_stage import HOLES, training

from vqtools.core.distributed import Distributed

if __name__ == "__main__":
    torch.set_num_threads(1)
    team = Distributed(Accelerator(cpu=True)) if "WORLD_SIZE" in os.environ else Distributed()
    job = training(HOLES, team, pkeep=0.9, learning_rate=1e-3)
    reports = [job.step() for _ in range(6)]
    if team.rank == 0:
        told = {f"told.{i}.{name}": torch.tensor(v) for i, report in enumerate(reports) for name, v in report.items()}
        save_file({k: v.contiguous() for k, v in (told | job.gpt.state_dict()).items()}, sys.argv[1])
    team.close()
