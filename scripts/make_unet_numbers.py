"""Small random networks and what PyTorch computes with them, for tests/golden/unet_random.c.

    python scripts/make_unet_numbers.py tests/data/unet-random

Needs torch, diffusers, safetensors; the numbers are committed, so neither build nor tests do. 50 UNet2DModel configurations that cover its options,
and a few RetortMLP and RetortClassifier (written out below from the formulas of retort/nn.h). Evaluated in float64.

cases.json      config, shape of x, t, labels y
numbers.safetensors, F64:  I.out, I.loss = mean((out - target)^2),
                I.grads: per parameter (and x, as "sample") a row {hash of the name, norm of the gradient, sum of gradient * u("project.NAME")}

Weights and inputs are not stored: both sides compute them. u(name, i) in [-1, 1) is a hash of name and index with 24 bits, so it is exact in float32:
    h = fnv1a(name) + i * 0x9E3779B9;  h ^= h >> 16;  h *= 0x85EBCA6B;  h ^= h >> 13;  h *= 0xC2B2AE35;  h ^= h >> 16;  u = (h >> 8) / 2^23 - 1
Parameters of rank 2 and more: 2^(1-k) u, k the smallest with 4^k >= numbers per output; other weights 1 + u/2; biases u/4.
x = 2 u("sample"), target = u("target"), vectors as labels = u("labels").

diffusers rounds the arguments of the sinusoidal features to float32; here they are double, its frequencies remaining float32. The script checks that
diffusers as shipped, in float32, agrees within 1e-4."""
import json
import math
import random
import sys
from pathlib import Path

import diffusers
import diffusers.models.embeddings as embeddings
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from safetensors.numpy import save_file

torch.set_num_threads(1)
diffusers.logging.set_verbosity_error()


def fnv1a(name):
    h = 0x811C9DC5
    for c in name.encode():
        h = (h ^ c) * 0x01000193 & 0xFFFFFFFF
    return h


def u(name, *shape):
    n = math.prod(shape)
    h = np.uint32(fnv1a(name)) + np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return torch.from_numpy((h >> np.uint32(8)).astype(np.float64) / 2**23 - 1).reshape(shape)


def parameter(name, shape):
    if len(shape) >= 2:
        k = 0
        while 4**k < math.prod(shape[1:]):
            k += 1
        return 2.0 ** (1 - k) * u(name, *shape)
    return 1 + u(name, *shape) / 2 if name.endswith("weight") else u(name, *shape) / 4


shipped = embeddings.get_timestep_embedding


def features(timesteps, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    half = dim // 2
    freq = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / (half - downscale_freq_shift))
    arg = timesteps[:, None].double() * freq[None].double()
    parts = [torch.cos(arg), torch.sin(arg)] if flip_sin_to_cos else [torch.sin(arg), torch.cos(arg)]
    return F.pad(torch.cat(parts, -1), (0, dim % 2)).to(timesteps.dtype)


# ---- UNet2DModel

def draw(r):
    """A configuration that UNet2DModel can hold, with the shape of x, times and labels."""
    levels = r.choice([1, 2, 2, 3, 3])
    groups = r.choice([1, 2, 3, 4, 5])
    channels = [groups * r.randint(-(-4 // groups), max(5, 14 // groups) if groups < 4 else 3) for _ in range(levels)]
    down = [r.choice(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]) for _ in channels]
    up = [r.choice(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]) for _ in channels]
    step = 2 ** (levels - 1)
    height, width = (step * r.randint(2, 8 // step + 1) for _ in range(2))
    time = r.choice(["positional", "positional", "fourier", "learned"])
    label = r.choice(["none", "none", "table", "timestep", "identity"])
    divisors = [d for d in range(1, channels[-1] + 1) if channels[-1] % d == 0]
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": [height, width] if height != width or r.random() < 0.3 else height,
        "in_channels": r.randint(1, 4),
        "out_channels": r.randint(1, 5),
        "center_input_sample": r.random() < 0.3,
        "time_embedding_type": time,
        "time_embedding_dim": r.choice([None, None, 8, 13]),
        "freq_shift": r.choice([0, 1]),
        "flip_sin_to_cos": r.random() < 0.5,
        "down_block_types": [("UNetRes" if r.random() < 0.1 else "") + d for d in down],
        "mid_block_type": None if r.random() < 0.2 else "UNetMidBlock2D",
        "up_block_types": up,
        "block_out_channels": channels,
        "layers_per_block": r.choice([1, 1, 2, 3]),
        "mid_block_scale_factor": r.choice([1, 1.4142135623730951, 0.5]),
        "downsample_padding": r.choice([0, 1]),
        "downsample_type": r.choice(["conv", "resnet", None]),
        "upsample_type": r.choice(["conv", "resnet", None]),
        "dropout": r.choice([0.0, 0.1]),
        "act_fn": r.choice(["silu", "swish", "mish", "gelu", "relu", "GELU"]),
        "attention_head_dim": r.choice([None, 1, 2, 3, 4, min(channels)]),
        "norm_num_groups": groups,
        "attn_norm_num_groups": r.choice([None, None, r.choice(divisors)]),
        "norm_eps": r.choice([1e-5, 1e-6, 1e-3]),
        "resnet_time_scale_shift": r.choice(["default", "scale_shift"]),
        "add_attention": r.random() < 0.8,
        "class_embed_type": label if label in ("timestep", "identity") else None,
        "num_class_embeds": {"table": 7, "timestep": None, "identity": None, "none": None}[label],
        "num_train_timesteps": 50 if time == "learned" else r.choice([None, 1000]),
    }
    if r.random() < 0.2:  # what is absent takes diffusers' default
        for field in ("center_input_sample", "freq_shift", "flip_sin_to_cos", "mid_block_type", "mid_block_scale_factor", "downsample_padding",
                      "downsample_type", "upsample_type", "dropout", "act_fn", "norm_eps", "resnet_time_scale_shift", "add_attention"):
            del config[field]
    number = {"positional": lambda: r.choice([0, 999, r.randint(1, 998), 250.5, 0.25]), "fourier": lambda: r.choice([0.02, 0.5, 1, 3.75, 80]),
              "learned": lambda: r.randint(0, 49)}[time]
    y = {"none": None, "table": [r.randint(0, 6), r.randint(0, 6)], "timestep": [number(), number()], "identity": "u"}[label]
    return {"config": config, "x": [2, config["in_channels"], height, width], "t": [number(), number()], "y": y}


def unet(case):
    net = UNet2DModel(**{k: v for k, v in case["config"].items() if k != "_class_name"})
    net.eval()
    config = net.config
    whole = config.time_embedding_type == "learned"

    def run(p, x, dtype):
        t = torch.tensor(case["t"], dtype=torch.long if whole else dtype)
        y = case["y"]
        if y == "u":
            y = u("labels", 2, config.time_embedding_dim or 4 * config.block_out_channels[0]).to(dtype)
        elif y is not None:
            y = torch.tensor(y, dtype=torch.long if whole or config.class_embed_type is None else dtype)
        return torch.func.functional_call(net.to(dtype), p, (x, t), {"class_labels": y}).sample

    return {k: v.shape for k, v in net.named_parameters()}, run


# ---- RetortMLP, RetortClassifier

def activation(config):
    return {"silu": F.silu, "mish": F.mish, "gelu": F.gelu, "relu": F.relu}[config.get("act_fn", "silu")]


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p[name + ".bias"])


def mlp(case):
    c = case["config"]
    a, h, d, f = activation(c), c.get("hidden", 128), c["data_dim"], c.get("time_features", 32)
    shapes = {"time_embedding": (h, f), "proj_in": (h, d), "proj_out": (d, h)}
    for i in range(c.get("layers", 3)):
        shapes |= {f"layers.{i}.{n}": (h, h) for n in ("linear_1", "time", "linear_2")}
    shapes = {f"{k}.{end}": torch.Size(s if end == "weight" else s[:1]) for k, s in shapes.items() for end in ("weight", "bias")}
    if c.get("num_class_embeds"):
        shapes["class_embedding.weight"] = torch.Size((c["num_class_embeds"], h))

    def run(p, x, dtype):
        e = a(linear(p, "time_embedding", embeddings.get_timestep_embedding(torch.tensor(case["t"], dtype=dtype), f, True, 0).to(dtype)))
        if case["y"]:
            e = e + p["class_embedding.weight"][torch.tensor(case["y"])]
        z = linear(p, "proj_in", x)
        for i in range(c.get("layers", 3)):
            inner = linear(p, f"layers.{i}.linear_1", a(z)) + linear(p, f"layers.{i}.time", e)
            z = z + linear(p, f"layers.{i}.linear_2", a(inner))
        return linear(p, "proj_out", a(z))

    return shapes, run


def classifier(case):
    c = case["config"]
    a, widths, groups, blocks = activation(c), c["block_out_channels"], c.get("norm_num_groups", 8), c.get("layers_per_block", 1)
    shapes = {"conv_in": (widths[0], c["in_channels"], 3, 3), "norm_out": (widths[-1],), "head": (c["num_classes"], widths[-1])}
    for i, w in enumerate(widths):
        if i:
            shapes[f"blocks.{i}.down"] = (w, widths[i - 1], 3, 3)
        for j in range(blocks):
            b = f"blocks.{i}.{j}"
            shapes |= {b + ".norm1": (w,), b + ".norm2": (w,), b + ".conv1": (w, w, 3, 3), b + ".conv2": (w, w, 3, 3)}
    shapes = {f"{k}.{end}": torch.Size(s if end == "weight" else s[:1]) for k, s in shapes.items() for end in ("weight", "bias")}

    def run(p, x, dtype):
        def conv(name, x, stride=1):
            return F.conv2d(x, p[name + ".weight"], p[name + ".bias"], stride=stride, padding=1)

        def norm(name, x):
            return a(F.group_norm(x, groups, p[name + ".weight"], p[name + ".bias"], 1e-5))

        x = conv("conv_in", x)
        for i in range(len(widths)):
            if i:
                x = conv(f"blocks.{i}.down", x, 2)
            for j in range(blocks):
                b = f"blocks.{i}.{j}"
                x = x + conv(b + ".conv2", norm(b + ".norm2", conv(b + ".conv1", norm(b + ".norm1", x))))
        return linear(p, "head", norm("norm_out", x).mean((2, 3)))

    return shapes, run


KINDS = {"UNet2DModel": unet, "RetortMLP": mlp, "RetortClassifier": classifier}


# ---- evaluation

def evaluate(case, dtype, patched=True):
    embeddings.get_timestep_embedding = features if patched else shipped
    shapes, run = KINDS[case["config"]["_class_name"]](case)
    p = {k: parameter(k, s).to(dtype).requires_grad_() for k, s in shapes.items()}
    x = (2 * u("sample", *case["x"])).to(dtype).requires_grad_()
    out = run(p, x, dtype)
    loss = (out - u("target", *out.shape).to(dtype)).square().mean()
    p["sample"] = x
    grads = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
    return out.detach().double(), loss.detach().double(), {k: torch.zeros_like(v).double() if g is None else g.double()
                                                           for (k, v), g in zip(p.items(), grads) if k != "time_proj.weight" or v.dim() == 2}


def row(name, g):
    return [float(fnv1a(name)), g.norm().item(), (g * u("project." + name, *g.shape)).sum().item()]


def distance(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def good(case):
    """Whether float32 suffices for the case and diffusers, unpatched, agrees."""
    try:
        out, _, grads = evaluate(case, torch.float64)
    except ValueError:
        return False  # no such network: a head wider than its block, say
    if not torch.isfinite(out).all() or out.abs().max() > 100 or sum(g.numel() for g in grads.values()) > 40000:
        return False
    single, _, single_grads = evaluate(case, torch.float32)
    loose = max(((single_grads[k] - g).norm() / (g.norm() + 1e-3 * max(h.norm() for h in grads.values()))).item() for k, g in grads.items())
    as_shipped = distance(evaluate(case, torch.float32, patched=False)[0], out)
    print(case["config"]["_class_name"], sum(g.numel() for g in grads.values()), f"float32 {distance(single, out):.1e} {loose:.1e} as shipped {as_shipped:.1e}")
    assert as_shipped < 1e-4
    return distance(single, out) < 1e-5 and loose < 1e-4


def attends(c):
    blocks = [d.replace("UNetRes", "") for d in c["down_block_types"]]
    pairs = list(zip(blocks, c["block_out_channels"])) + list(zip(c["up_block_types"], reversed(c["block_out_channels"])))
    return [w for b, w in pairs if b.startswith("Attn")] + ([c["block_out_channels"][-1]] if c.get("mid_block_type", 1) and c.get("add_attention", 1) else [])


def cases():
    r = random.Random(2024)
    found = []
    while len(found) < 50:
        case = draw(r)
        head = case["config"]["attention_head_dim"]
        if (head and any(w < head for w in attends(case["config"]))) or not good(case):
            continue
        found.append(case)
    # every choice occurs
    for field, n in {"time_embedding_type": 3, "act_fn": 6, "attention_head_dim": 5, "attn_norm_num_groups": 2, "class_embed_type": 3, "norm_eps": 3,
                     "downsample_type": 3, "upsample_type": 3, "mid_block_type": 2, "add_attention": 2, "mid_block_scale_factor": 3,
                     "downsample_padding": 2, "resnet_time_scale_shift": 2, "center_input_sample": 2, "freq_shift": 2, "layers_per_block": 3,
                     "flip_sin_to_cos": 2, "time_embedding_dim": 3, "num_class_embeds": 2, "norm_num_groups": 5}.items():
        assert len({c["config"][field] for c in found if field in c["config"]}) >= n, field
    for block in ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "UNetResAttnDownBlock2D"):
        assert any(block in c["config"]["down_block_types"] for c in found), block
    small = [
        ({"_class_name": "RetortMLP", "data_dim": 2, "hidden": 16}, [3, 2], [0, 512, 999], None),
        ({"_class_name": "RetortMLP", "data_dim": 5, "hidden": 12, "layers": 1, "num_class_embeds": 4, "time_features": 9, "act_fn": "mish"},
         [3, 5], [0.5, 250, 750.25], [3, 0, 2]),
        ({"_class_name": "RetortMLP", "data_dim": 1, "hidden": 7, "layers": 2, "num_class_embeds": None, "time_features": 2, "act_fn": "relu"},
         [2, 1], [1, 2], None),
        ({"_class_name": "RetortClassifier", "in_channels": 1, "sample_size": 12, "num_classes": 10, "block_out_channels": [8, 16]},
         [2, 1, 12, 12], None, None),
        ({"_class_name": "RetortClassifier", "in_channels": 3, "sample_size": 7, "num_classes": 3, "block_out_channels": [4, 6, 4],
          "layers_per_block": 2, "norm_num_groups": 2, "act_fn": "gelu"}, [2, 3, 7, 7], None, None),
    ]
    small = [{"config": c, "x": x, "t": t, "y": y} for c, x, t, y in small]
    assert all(good(c) for c in small)
    return found + small


folder = Path(sys.argv[1])
numbers = {}
with open(folder / "cases.json", "w") as file:
    made = cases()
    file.write("[\n" + ",\n".join(json.dumps(c) for c in made) + "\n]\n")
for i, case in enumerate(made):
    out, loss, grads = evaluate(case, torch.float64)
    numbers[f"{i}.out"] = out.contiguous().numpy()
    numbers[f"{i}.loss"] = loss.reshape(1).numpy()
    numbers[f"{i}.grads"] = np.array([row(k, g) for k, g in grads.items()])
save_file(numbers, folder / "numbers.safetensors", metadata={"torch": torch.__version__, "diffusers": diffusers.__version__})
