#!/usr/bin/env python3
"""Draw a UNet2DModel pipeline with diffusers, also a class-conditional one, which DDIMPipeline refuses.

    draw_with_diffusers.py FOLDER OUT.png                              64 pictures, by the recipe in the folder (a model without one: 50 steps)
    draw_with_diffusers.py FOLDER NOISE.safetensors STEPS OUT.safetensors

NOISE holds `noise` [n,...] and, for networks with classes, `y` [n]; OUT gets `x`. Needs Python with torch and diffusers; nothing in Retort does.
`retort sample FOLDER --noise NOISE.safetensors --steps STEPS --out OUT.safetensors` is the same on the other side.
"""
import sys

import diffusers
import torch
from safetensors.torch import load_file, save_file

folder, out = sys.argv[1], sys.argv[-1]
unet = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet").eval()
name = diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")["_class_name"]
scheduler = getattr(diffusers, name).from_pretrained(folder, subfolder="scheduler")
recipe = scheduler.config.get("_retort") or {}
steps = recipe.get("steps") or 50
x, y = None, None
if len(sys.argv) == 5:
    given, steps = load_file(sys.argv[2]), int(sys.argv[3])
    x, y = given["noise"].float(), given.get("y")
else:
    size = unet.config.sample_size
    torch.manual_seed(0)
    x = torch.randn(64, unet.config.in_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))
    if unet.config.num_class_embeds:
        null = recipe.get("null_class", -1)
        classes = [k for k in range(unet.config.num_class_embeds) if k != null]
        y = torch.tensor([classes[j % len(classes)] for j in range(64)])

if recipe.get("solver") == "renoise":  # LCMScheduler's own steps are at other times
    scheduler.set_timesteps(timesteps=[int(t) for t in recipe["timesteps"]], original_inference_steps=scheduler.config.num_train_timesteps)
else:
    scheduler.set_timesteps(steps)
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, class_labels=y).sample, t, x).prev_sample
if out.endswith(".safetensors"):
    save_file({"x": x.contiguous()}, out)
else:
    low, high = recipe.get("data_range") or (-1, 1)
    pixels = ((x - low) / (high - low)).clamp(0, 1)
    rows = [torch.cat(list(pixels[i : i + 8]), 2) for i in range(0, 64, 8)]
    picture = (torch.cat(rows, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    from PIL import Image

    Image.fromarray(picture.squeeze()).save(out)
