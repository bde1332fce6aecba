"""Samples and outputs of the foreign teacher, drawn by diffusers, for tests/golden/teacher_samples.c.

    python make_teacher_samples.py ../shared/teachers/fashion-ddpm-diffusers samples.safetensors

Needs torch and diffusers; the numbers are committed, so neither build nor tests do."""
import sys

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import save_file

folder, out = sys.argv[1:]
net = UNet2DModel.from_pretrained(folder, subfolder="unet").eval()
scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
n, null = 4, 10
noise = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
y = torch.tensor([3, 9, 0, 7])
t = torch.tensor([0, 250, 777, 999])


@torch.no_grad()
def sample(steps, guidance):
    scheduler.set_timesteps(steps)
    x = noise.clone()
    for step in scheduler.timesteps:
        v = net(x, step, class_labels=y).sample
        if guidance:
            v = (1 + guidance) * v - guidance * net(x, step, class_labels=torch.full((n,), null)).sample
        x = scheduler.step(v, step, x).prev_sample
    return x


with torch.no_grad():
    tensors = {"noise": noise, "y": y, "t": t, "out": net(noise, t, class_labels=y).sample}
tensors |= {"steps_8": sample(8, 0), "steps_30": sample(30, 0), "guided_8": sample(8, 1.5)}
save_file(tensors, out)
