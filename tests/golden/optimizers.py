"""Records 20 steps of each optimiser in float64, for `tests/it/optimizers.rs`.

Adam, AdamW and SGD are torch's own; its AdamW's decay is that of arXiv 2106.05237 times the learning rate. Shampoo
(arXiv 1802.09568, 2002.09018) takes its inverse roots from eigenvalues, Muon (Jordan et al. 2024, with the scale of arXiv
2502.16982) is its published iteration, which torch has in bfloat16 only: there the two are compared, loosely.

    pip install torch                 (recorded with torch 2.15 and numpy 2.4)
    python tests/golden/optimizers.py tests/golden/optimizers.json
"""
import json
import math
import sys

import numpy as np
import torch

STEPS, WARMUP, CLIP = 20, 5, 1.0
RATE = 0.02
# The first is larger than a block of 8, in one direction by a part of one.
TENSORS = {"matrix": (20, 12), "kernel": (6, 2, 3, 3), "bias": (7,), "head": (4, 6)}
MATRICES, DECAYED = ("matrix", "kernel", "head"), ("matrix", "kernel", "head")


def numbers(count, seed):
    i = np.arange(count, dtype=np.int64)
    return (((i * 7919 + seed * 104729) % 2003) / 1001 - 1).astype(np.float32).astype(np.float64)


def cut(flat):
    parts, at = {}, 0
    for name, shape in TENSORS.items():
        parts[name] = flat[at:at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)
    return parts


COUNT = sum(math.prod(shape) for shape in TENSORS.values())


def gradient(step):
    # What stays from step to step, and what does not.
    flat = 0.04 * numbers(COUNT, 1) + 0.08 * numbers(COUNT, 2 + step)
    return flat.astype(np.float32).astype(np.float64)


def clipped(step):
    flat = gradient(step)
    norm = np.linalg.norm(flat)
    return cut(flat * min(1.0, CLIP / norm))


def share(step, schedule):
    rise = min(step / WARMUP, 1.0)
    progress = max(step - WARMUP, 0) / (STEPS - WARMUP)
    return rise * {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "quadratic": (1 - progress) ** 2}[schedule]


def by_torch(make, decay, convention, schedule):
    """`make(parameters, weight_decay)`; the rate of each step is set beside it."""
    weights = {name: torch.tensor(part.copy()) for name, part in cut(numbers(COUNT, 0)).items()}
    groups = [{"params": [weights[name]], "weight_decay": 0.0, "decays": name in DECAYED} for name in weights]
    optimizer = make(groups)
    for step in range(STEPS):
        s = share(step, schedule)
        for group, part in zip(optimizer.param_groups, clipped(step).values()):
            group["lr"] = s * RATE
            if group["decays"]:
                if convention == "schedule":
                    group["params"][0].mul_(1 - s * decay)
                else:
                    group["weight_decay"] = decay
            group["params"][0].grad = torch.tensor(part.copy())
        optimizer.step()
    return np.concatenate([part.numpy().ravel() for part in weights.values()])


def by_hand(direction, momentum, nesterov, decay, convention, schedule):
    """Momentum without damping over what `direction(step, name, gradient)` makes of a tensor's gradient."""
    weights = {name: part.copy() for name, part in cut(numbers(COUNT, 0)).items()}
    moments = {name: np.zeros_like(part) for name, part in weights.items()}
    for step in range(STEPS):
        s = share(step, schedule)
        for name, part in clipped(step).items():
            w, wd = weights[name], decay if name in DECAYED else 0.0
            if convention == "gradient":
                part = part + wd * w
            d = direction(step, name, part)
            moments[name] = momentum * moments[name] + d
            d = d + momentum * moments[name] if nesterov else moments[name]
            keep = {"schedule": 1 - s * wd, "learning-rate": 1 - s * RATE * wd, "gradient": 1.0}[convention]
            weights[name] = keep * w - s * RATE * d
    return np.concatenate([part.ravel() for part in weights.values()])


def inverse_fourth_root(statistics, epsilon):
    values, vectors = np.linalg.eigh(statistics)
    return vectors @ np.diag((np.maximum(values, 0) + epsilon * values[-1]) ** -0.25) @ vectors.T


class Shampoo:
    def __init__(self, block, every, beta2, epsilon, graft):
        self.block, self.every, self.beta2, self.epsilon, self.graft = block, every, beta2, epsilon, graft
        self.kept, self.roots, self.squares = {}, {}, {}

    def grafted(self, step, name, g):
        kind = next(iter(self.graft)) if isinstance(self.graft, dict) else self.graft
        if kind == "sgd":
            return g
        settings = self.graft[kind]
        before = self.squares.get(name, np.zeros_like(g))
        if kind == "adagrad":
            self.squares[name] = before + g * g
            return g / (np.sqrt(self.squares[name]) + settings["epsilon"])
        self.squares[name] = settings["beta2"] * before + (1 - settings["beta2"]) * g * g
        corrected = self.squares[name] / (1 - settings["beta2"] ** (step + 1))
        return g / (np.sqrt(corrected) + settings["epsilon"])

    def __call__(self, step, name, g):
        d = self.grafted(step, name, g)
        if name not in MATRICES:
            return d
        matrix = g.reshape(g.shape[0], -1)
        made = np.empty_like(matrix)
        take = 1.0 if self.beta2 == 1.0 else 1.0 - self.beta2
        for row in range(0, matrix.shape[0], self.block):
            for column in range(0, matrix.shape[1], self.block):
                place = (slice(row, row + self.block), slice(column, column + self.block))
                part, key = matrix[place], (name, row, column)
                left, right = self.kept.get(key, (0.0, 0.0))
                left, right = self.beta2 * left + take * part @ part.T, self.beta2 * right + take * part.T @ part
                self.kept[key] = left, right
                if step % self.every == 0:
                    self.roots[key] = [inverse_fourth_root(one, self.epsilon) for one in (left, right)]
                made[place] = self.roots[key][0] @ part @ self.roots[key][1]
        return (made * np.linalg.norm(d) / np.linalg.norm(made)).reshape(g.shape)


def orthogonalized(matrix):
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon:
    def __init__(self, momentum, nesterov, beta1, beta2, epsilon):
        self.momentum, self.nesterov, self.betas, self.epsilon = momentum, nesterov, (beta1, beta2), epsilon
        self.first, self.second = {}, {}

    def __call__(self, step, name, g):
        m = self.first.get(name, np.zeros_like(g))
        if name in ("matrix", "kernel"):
            self.first[name] = m = self.momentum * m + g
            u = (g + self.momentum * m if self.nesterov else m).reshape(g.shape[0], -1)
            return (0.2 * math.sqrt(max(u.shape)) * orthogonalized(u)).reshape(g.shape)
        (a, b), t = self.betas, step + 1
        self.first[name] = m = a * m + (1 - a) * g
        self.second[name] = v = b * self.second.get(name, np.zeros_like(g)) + (1 - b) * g * g
        return m / (1 - a ** t) / (np.sqrt(v / (1 - b ** t)) + self.epsilon)


def near_torchs_muon():
    ours = cut(by_hand(Muon(0.95, True, 0.9, 0.999, 1e-8), 0.0, False, 0.1, "learning-rate", "cosine"))["matrix"]
    start = cut(numbers(COUNT, 0))["matrix"]
    weight = torch.tensor(start.copy())
    optimizer = torch.optim.Muon([weight], lr=RATE, weight_decay=0.1, momentum=0.95, nesterov=True,
                                 adjust_lr_fn="match_rms_adamw")
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = share(step, "cosine") * RATE
        weight.grad = torch.tensor(clipped(step)["matrix"].copy())
        optimizer.step()
    apart = np.linalg.norm(weight.numpy() - ours) / np.linalg.norm(ours - start)
    assert apart < 0.05, apart


cases = []


def record(optimizer, weight_decay, decay, schedule, weights):
    cases.append({"optimizer": optimizer, "weight-decay": weight_decay, "decay": decay, "schedule": schedule,
                  "weights": [float(f"{value:.9g}") for value in weights]})


adam = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
for convention, wd, kind in (("schedule", 0.01, torch.optim.Adam), ("learning-rate", 0.2, torch.optim.AdamW),
                             ("gradient", 0.01, torch.optim.Adam)):
    weights = by_torch(lambda groups: kind(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8), wd, convention, "cosine")
    record({"adam": adam}, wd, convention, "cosine", weights)
for nesterov in (False, True):
    for convention in ("schedule", "gradient"):
        weights = by_torch(lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=nesterov), 0.01,
                           convention, "quadratic")
        record({"sgd": {"momentum": 0.9, "nesterov": nesterov}}, 0.01, convention, "quadratic", weights)
for every, beta2, nesterov, graft, convention in (
        (1, 1.0, True, {"rmsprop": {"beta2": 0.99, "epsilon": 1e-8}}, "schedule"),
        (1, 0.9, False, "sgd", "gradient"),
        (4, 0.95, True, {"adagrad": {"epsilon": 1e-8}}, "learning-rate")):
    for block, epsilon in ((8, 1e-4), (128, 1e-2)):
        weights = by_hand(Shampoo(block, every, beta2, epsilon, graft), 0.9, nesterov, 0.01, convention, "quadratic")
        record({"shampoo": {"block": block, "every": every, "beta2": beta2, "momentum": 0.9, "nesterov": nesterov,
                            "epsilon": epsilon, "graft": graft}}, 0.01, convention, "quadratic", weights)
for nesterov, convention in ((True, "schedule"), (False, "learning-rate")):
    weights = by_hand(Muon(0.95, nesterov, **adam), 0.0, False, 0.01, convention, "cosine")
    record({"muon": {"momentum": 0.95, "nesterov": nesterov, "iterations": 5, "adam": adam}}, 0.01, convention, "cosine",
           weights)
near_torchs_muon()
with open(sys.argv[1], "w") as file:
    json.dump(cases, file, separators=(",", ":"))
    file.write("\n")
