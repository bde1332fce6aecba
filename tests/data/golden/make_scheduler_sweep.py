"""Makes scheduler_sweep.json: random configurations of the scheduler classes that Retort follows, and where diffusers 0.42 ends with each.

    python make_scheduler_sweep.py scheduler_sweep.json [SEED [COUNT]]

Needs diffusers, torch and scipy (use_beta_sigmas). A configuration is read by from_config, as from a folder, with keys of other classes in it now
and then. The "network" is the exact mixture of two normal distributions that `model` spells out, at the noise that the timestep means on the
table of training steps: it sees no other number of the scheduler. Tables are diffusers' own (float32), what is made from them is calculated in
double; square roots are rounded correctly, where torch's are one unit in the last place off on some machines. A run that diffusers refuses, or that is not finite, has x = null.
"""
import json
import math
import random
import sys

import diffusers
import numpy as np
import torch

OUT, SEED, COUNT = sys.argv[1], int((sys.argv[2:] or [20])[0]), int((sys.argv[3:] or [300])[0])
ROWS, FEATURES, MOST_STEPS = 4, 2, 40
rng = random.Random(SEED)
normals = np.random.default_rng(SEED)
diffusers.utils.logging.set_verbosity_error()

power = torch.Tensor.__pow__
torch.Tensor.sqrt = lambda a: torch.from_numpy(np.asarray(np.sqrt(a.numpy())))
torch.Tensor.__pow__ = lambda a, b: a.sqrt() if b == 0.5 else power(a, b)

WEIGHTS, MEANS = (0.35, 0.65), ((0.6, -0.4), (-0.5, 0.3))
COVARIANCES = ((0.09, 0.03, 0.03, 0.05), (0.02, -0.01, -0.01, 0.12))

BETAS = {
    "beta_start": [1e-4, 0.00085],
    "beta_end": [0.02, 0.012],
    "beta_schedule": ["linear", "scaled_linear", "squaredcos_cap_v2"],
    "num_train_timesteps": [1000, 1000, 250, 128],
    "prediction_type": ["epsilon", "v_prediction", "sample"],
}
SPACED = {"timestep_spacing": ["leading", "trailing", "linspace"], "steps_offset": [0, 1]}
CLIPPED = {"clip_sample": [True, False], "clip_sample_range": [1.0, 0.7, 2.5]}
RESPACED = {"use_karras_sigmas": [True, False], "use_exponential_sigmas": [True, False], "use_beta_sigmas": [True, False]}
ZERO = {"rescale_betas_zero_snr": [True, False]}
ENDS = {"final_sigmas_type": ["zero", "sigma_min"], "sigma_min": [None, 0.05, 0.002], "sigma_max": [None, 40.0, 3.0]}
MULTI = {
    "solver_order": [1, 2, 3],
    "lower_order_final": [True, False],
    "final_sigmas_type": ["zero", "sigma_min"],
    "thresholding": [False, False, False, True],
}
DPM = {
    "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "deis"],
    "solver_type": ["midpoint", "heun", "logrho", "bh1"],
    "lambda_min_clipped": [-100.0, -5.1, -3.0],
}
CLASSES = {
    "DDIMScheduler": {**BETAS, **SPACED, **CLIPPED, **ZERO, "set_alpha_to_one": [True, False], "thresholding": [False, False, True]},
    "DDPMScheduler": {
        **BETAS, **SPACED, **CLIPPED, **ZERO,
        "variance_type": ["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned"],
        "beta_schedule": ["linear", "squaredcos_cap_v2", "laplace", "sigmoid"],
    },
    "EulerDiscreteScheduler": {
        **BETAS, **SPACED, **RESPACED, **ZERO, **ENDS,
        "interpolation_type": ["linear", "log_linear"],
        "timestep_type": ["discrete", "discrete", "continuous"],
    },
    "EulerAncestralDiscreteScheduler": {**BETAS, **SPACED, **ZERO},
    "HeunDiscreteScheduler": {
        **BETAS, **SPACED, **CLIPPED, **RESPACED, "beta_schedule": ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"]},
    "DPMSolverMultistepScheduler": {
        **BETAS, **SPACED, **RESPACED, **ZERO, **MULTI, **DPM, "euler_at_final": [True, False], "use_lu_lambdas": [False, False, True]},
    "DPMSolverSinglestepScheduler": {**BETAS, **RESPACED, **MULTI, **DPM},
    "UniPCMultistepScheduler": {
        **BETAS, **SPACED, **RESPACED, **ZERO, **MULTI, **ENDS,
        "solver_type": ["bh1", "bh2", "midpoint"], "predict_x0": [True, False], "disable_corrector": [[], [0]]},
    "FlowMatchEulerDiscreteScheduler": {
        **RESPACED, "num_train_timesteps": [1000, 250], "shift": [1.0, 3.0, 0.5], "shift_terminal": [None, 0.1],
        "stochastic_sampling": [True, False], "invert_sigmas": [False, False, True], "use_dynamic_shifting": [False, False, True]},
}
# Keys of one class in another's file: diffusers keeps them, and some of its code reads them.
FOREIGN = {**SPACED, **CLIPPED, **ZERO, **ENDS, "set_alpha_to_one": [False], "skip_prk_steps": [True], "sample_max_value": [1.0]}


def configuration(name):
    keys = CLASSES[name]
    c = {"_class_name": name}
    for key in keys:
        rare = key.startswith("use_") or key in ("thresholding", "sigma_min", "sigma_max", "lambda_min_clipped", "timestep_type")
        if rng.random() < (0.3 if rare else 0.5):
            c[key] = rng.choice(keys[key])
    for key in FOREIGN:
        if key not in keys and rng.random() < 0.08:
            c[key] = rng.choice(FOREIGN[key])
    if rng.random() < 0.1 and len(c) > 2:
        c["_use_default_values"] = rng.sample([k for k in c if k != "_class_name"], 2)
    return c


class Double:
    """torch, with float64 where it says float32: for the arithmetic of a step."""

    def __getattr__(self, name):
        return torch.float64 if name == "float32" else getattr(torch, name)


def angles(scheduler):
    """Of alpha = cos, sigma = sin at every timestep of training."""
    bar = scheduler.alphas_cumprod.double().numpy()
    return np.arctan2(np.sqrt(1 - bar), np.sqrt(bar))


def model(x, t, prediction, table, T):
    if table is None:
        sigma = t / T
        alpha = 1 - sigma
    else:
        t = min(max(t, 0), T - 1)
        angle = np.interp(t, np.arange(T), table)
        alpha, sigma = math.cos(angle), math.sin(angle)
    parts = []
    for w, mean, c in zip(WEIGHTS, MEANS, COVARIANCES):
        S = torch.tensor(c, dtype=torch.float64).reshape(2, 2)
        V = alpha * alpha * S + sigma * sigma * torch.eye(2, dtype=torch.float64)
        d = x - alpha * torch.tensor(mean, dtype=torch.float64)
        u = torch.linalg.solve(V, d.T).T
        parts.append((math.log(w) - 0.5 * torch.logdet(V) - 0.5 * (d * u).sum(1), torch.tensor(mean) + alpha * u @ S, sigma * u))
    r = torch.softmax(torch.stack([p[0] for p in parts]), 0)[:, :, None]
    x0 = sum(r[k] * parts[k][1] for k in range(2))
    eps = sum(r[k] * parts[k][2] for k in range(2))
    return {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0, "flow": eps - x0}[prediction]


def run(config, steps, start, noise):
    cls = getattr(diffusers, config["_class_name"])
    module = sys.modules[cls.__module__]
    s = cls.from_config(config)
    flow = "FlowMatch" in config["_class_name"]
    table = None if flow else angles(s)
    s.set_timesteps(steps)
    for name in ("sigmas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "final_alpha_cumprod", "one"):
        if hasattr(s, name):
            setattr(s, name, getattr(s, name).double())
    used = iter(noise)
    module.randn_tensor = lambda *a, **k: torch.from_numpy(next(used))[:, :, None]
    x = torch.from_numpy(start)[:, :, None] * (1.0 if flow else float(s.init_noise_sigma))
    T = s.config.num_train_timesteps
    module.torch = Double()
    try:
        for t in s.timesteps:
            seen = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
            out = model(seen[:, :, 0], float(t), "flow" if flow else s.config.prediction_type, table, T)[:, :, None]
            x = s.step(out, t, x).prev_sample
    finally:
        module.torch = torch
    return x.double().numpy()


start, noise = normals.standard_normal((ROWS, FEATURES)), normals.standard_normal((MOST_STEPS, ROWS, FEATURES))
runs = []
for i in range(COUNT):
    config = configuration(list(CLASSES)[i % len(CLASSES)])
    steps = rng.choice([1, 2, 3, 4, 5, 7, 8, 10, 16, 25])
    try:
        x = run(config, steps, start, noise)
        why = None if np.isfinite(x).all() else "not finite"
    except Exception as e:
        x, why = None, f"{type(e).__name__}: {e}"[:60]
    entry = {"config": config, "steps": steps}
    if why:
        entry["fails"] = why
    else:
        entry["x"] = [float(f"{v:.9g}") for v in x.flatten()]
    runs.append(entry)

with open(OUT, "w") as f:
    f.write('{"made_by": "make_scheduler_sweep.py with diffusers %s, seed %d",\n' % (diffusers.__version__, SEED))
    f.write('"weights": %s, "means": %s, "covariances": %s,\n' % tuple(map(json.dumps, (WEIGHTS, MEANS, COVARIANCES))))
    short = lambda a: json.dumps([float(f"{v:.9g}") for v in a.flatten()])
    f.write('"start": %s,\n"noise": %s,\n"runs": [\n' % (short(start), short(noise)))
    f.write(",\n".join(json.dumps(r) for r in runs) + "\n]}\n")
print(f"{len(runs)} runs, {sum('x' in r for r in runs)} finite")
