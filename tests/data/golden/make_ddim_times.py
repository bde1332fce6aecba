"""Makes ddim_times.safetensors: the timesteps of diffusers' DDIMScheduler for every spacing and many numbers of steps.

    python make_ddim_times.py ddim_times.safetensors
"""
import sys

import diffusers
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

tensors = {}
for T in (100, 1000, 1024):
    for spacing in ("leading", "trailing", "linspace"):
        scheduler = DDIMScheduler(num_train_timesteps=T, timestep_spacing=spacing)
        rows = []
        for n in range(1, 65):
            scheduler.set_timesteps(n)
            # trailing spacing sometimes ends, by rounding, in one timestep too many: -1, which no network knows (29 of 100, 61 of 1000, ...)
            assert len(scheduler.timesteps) == n or scheduler.timesteps[n:].tolist() == [-1]
            rows.append(scheduler.timesteps[:n].to(torch.int16))
        tensors[f"{spacing}.{T}"] = torch.cat(rows)  # 1 + 2 + ... + 64 numbers
save_file(tensors, sys.argv[1], metadata={"diffusers": diffusers.__version__})
