#!/usr/bin/env python3
"""Draw a class-conditional UNet2DModel pipeline with diffusers, to lay beside Retort's pictures from the same noise.

    draw_with_diffusers.py FOLDER NOISE.safetensors STEPS OUT.safetensors

NOISE holds `noise` [n,...] and, for networks with classes, `y` [n]; OUT gets `x`. Needs Python with torch and diffusers; nothing in Retort does.
`retort sample FOLDER --noise NOISE.safetensors --steps STEPS --out OUT.safetensors` is the same on the other side.
"""
import sys

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

folder, noise, steps, out = sys.argv[1:5]
unet = UNet2DModel.from_pretrained(folder, subfolder="unet").eval()
scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
given = load_file(noise)
x, y = given["noise"].float(), given.get("y")

scheduler.set_timesteps(int(steps))
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, class_labels=y).sample, t, x).prev_sample
save_file({"x": x.contiguous()}, out)
