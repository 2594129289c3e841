"""Records what PyTorch makes of losses, ensembles, schedules, decay and mixup, for `tests/it/losses.rs`.

    pip install torch                 (recorded with torch 2.15; everything in float64)
    python tests/golden/losses.py tests/golden/losses.json

Losses are written as their papers and their authors' code have them, gradients are autograd's; schedules are torch's own
schedulers, one after the other; decay is torch's AdamW with weight_decay = decay / learning rate.
"""
import json
import math
import sys

import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler

torch.set_default_dtype(torch.float64)
IMAGES, CLASSES = 6, 5
LABELS = torch.tensor([3, 0, 4, 1, 3, 2])


def numbers(count, seed, reach):
    return torch.tensor([reach * math.sin(1 + seed + 12.9898 * i + 78.233 * seed * i) for i in range(count)])


logits = numbers(IMAGES * CLASSES, 1, 3.0).reshape(IMAGES, CLASSES)
teachers = [numbers(IMAGES * CLASSES, 2, 4.0).reshape(IMAGES, CLASSES), numbers(IMAGES * CLASSES, 3, 2.5).reshape(IMAGES, CLASSES)]


def kl(student, teacher, temperature=1.0, scale="squared"):
    divergence = F.kl_div(F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1),
                          reduction="batchmean", log_target=True)
    return divergence * (temperature ** 2 if scale == "squared" else 1)


def squared(student, teacher):
    return (student - teacher).pow(2).sum(1).mean()


def euclidean(student, teacher):
    return F.pairwise_distance(student, teacher, eps=0).mean()


def pseudo_labels(student, teacher, smoothing):
    return F.cross_entropy(student, teacher.argmax(1), label_smoothing=smoothing)


def dist(student, teacher, beta, gamma, temperature):
    def relation(a, b):
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()
    q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    return temperature ** 2 * (beta * relation(q, p) + gamma * relation(q.T, p.T))


def dkd(student, teacher, alpha, beta, temperature):
    true = F.one_hot(LABELS, CLASSES).bool()
    def two(row):
        p = (row / temperature).softmax(1)
        p = p[true]
        return torch.stack([p, 1 - p], 1)
    def others(row):
        return (row / temperature)[~true].reshape(len(row), CLASSES - 1).log_softmax(1)
    first = F.kl_div(two(student).log(), two(teacher), reduction="batchmean")
    second = F.kl_div(others(student), others(teacher), reduction="batchmean", log_target=True)
    return temperature ** 2 * (alpha * first + beta * second)


DISTANCES = {"kl": kl, "squared": squared, "euclidean": euclidean, "pseudo-labels": pseudo_labels, "dist": dist, "dkd": dkd}
losses = []


def mixed(share):
    one_hot = F.one_hot(LABELS, CLASSES).double()
    return share * one_hot + (1 - share) * one_hot.roll(1, 0)


def record(distance, rule="mean-logits", weights=(1.0,), label_weight=0.0, smoothing=0.0, share=1.0):
    """`distance` as an experiment writes it; one weight for each teacher; labels mixed with `share` of their own."""
    student = logits.clone().requires_grad_()
    asked, total = teachers[:len(weights)], sum(weights)
    value = torch.zeros(())
    if distance is not None:
        name, settings = (distance, {}) if isinstance(distance, str) else next(iter(distance.items()))
        compare = lambda teacher: DISTANCES[name](student, teacher, **settings)
        if rule == "mean-logits":
            value = compare(sum(w * t for w, t in zip(weights, asked)) / total)
        elif rule == "mean-probabilities":
            value = compare((sum(w * t.softmax(1) for w, t in zip(weights, asked)) / total).log())
        else:
            value = sum(w * compare(t) for w, t in zip(weights, asked))
    if label_weight > 0:
        labels = F.cross_entropy(student, mixed(share), label_smoothing=smoothing)
        value = (1 - label_weight) * value + label_weight * labels
    value.backward()
    losses.append({"distance": distance, "rule": rule, "weights": list(weights), "label-weight": label_weight,
                   "smoothing": smoothing, "share": share, "value": value.item(), "gradient": student.grad.tolist()})


every = ["squared", "euclidean"]
for temperature in (0.5, 1.0, 4.0, 10.0):
    every += [{"kl": {"temperature": temperature, "scale": scale}} for scale in ("squared", "plain")]
    every += [{"dist": {"beta": beta, "gamma": gamma, "temperature": temperature}}
              for beta, gamma in ((1.0, 1.0), (2.0, 0.0), (0.0, 0.5))]
    every += [{"dkd": {"alpha": alpha, "beta": beta, "temperature": temperature}}
              for alpha, beta in ((1.0, 8.0), (1.0, 0.0), (0.0, 2.0))]
every += [{"pseudo-labels": {"smoothing": smoothing}} for smoothing in (0.0, 0.1, 0.5)]
for distance in every:
    record(distance)
    record(distance, label_weight=0.25, smoothing=0.1)
    for rule in ("mean-logits", "mean-probabilities"):
        record(distance, rule, (1.0, 1.0))
        record(distance, rule, (1.0, 2.5), label_weight=0.75)
    if isinstance(distance, dict) and "kl" in distance:
        record(distance, "sum-of-kl", (1.0, 1.0))
        record(distance, "sum-of-kl", (0.5, 2.5), label_weight=0.5, smoothing=0.2, share=0.7)
for smoothing in (0.0, 0.1):
    for share in (1.0, 0.8):
        record(None, label_weight=1.0, smoothing=smoothing, share=share)

# Shares of the peak rate, step by step, for so many steps of which the first are the warm-up.
PEAK, DECAY = 0.02, 0.3


def schedulers(schedule, optimizer, left):
    if schedule == "cosine":
        return [(lr_scheduler.CosineAnnealingLR(optimizer, left), left)]
    if schedule in ("linear", "quadratic"):
        return [(lr_scheduler.PolynomialLR(optimizer, left, power=1 if schedule == "linear" else 2), left)]
    constant = lr_scheduler.ConstantLR(optimizer, 1.0)
    if schedule == "constant":
        return [(constant, left)]
    fall = round(schedule["cooldown"] * left)
    return [(constant, left - fall), (lr_scheduler.LinearLR(optimizer, 1.0, 0.0, fall), fall)]


def run(schedule, warmup, total, step):
    """Calls `step` with an optimiser of one vector, once a step; the rate is then what the step is to use."""
    weights = torch.nn.Parameter(numbers(8, 4, 1.0))
    optimizer = torch.optim.AdamW([weights], lr=PEAK, weight_decay=DECAY / PEAK)
    parts = schedulers(schedule, optimizer, total - warmup)
    if warmup:
        parts.insert(0, (lr_scheduler.LambdaLR(optimizer, lambda step: step / warmup), warmup))
    ends, end = [], 0
    for _, length in parts[:-1]:
        end += length
        ends.append(end)
    scheduler = lr_scheduler.SequentialLR(optimizer, [part for part, _ in parts], milestones=ends)
    for at in range(total):
        step(at, weights, optimizer)
        scheduler.step()


schedules = []
for schedule in ("cosine", "linear", "quadratic", "constant", {"cooldown": 0.25}, {"cooldown": 1.0}):
    for warmup, total in ((0, 20), (10, 50)):
        shares = []

        def look(at, weights, optimizer):
            shares.append(optimizer.param_groups[0]["lr"] / PEAK)
            weights.grad = torch.zeros_like(weights)
            optimizer.step()
        run(schedule, warmup, total, look)
        schedules.append({"schedule": schedule, "warmup": warmup, "steps": total, "shares": shares})

# Adam with decay, whose gradients are shorter than where they are clipped.
gradients = [(numbers(8, 10 + at, 0.1)).tolist() for at in range(12)]
after = []


def descend(at, weights, optimizer):
    weights.grad = torch.tensor(gradients[at])
    optimizer.step()
    after.append(weights.detach().tolist())


run("cosine", 4, 12, descend)
decay = {"rate": PEAK, "decay": DECAY, "warmup": 4, "start": numbers(8, 4, 1.0).tolist(), "gradients": gradients, "after": after}

images = numbers(4 * 3 * 3 * 2, 5, 1.0).reshape(4, 3, 3, 2)
labels = torch.tensor([2, 0, 1, 2])
one_hot = F.one_hot(labels, 3).double()
mixups = []
for share, smoothing in ((1.0, 0.0), (0.5, 0.0), (0.8, 0.1)):
    soft = share * one_hot + (1 - share) * one_hot.roll(1, 0)
    mixups.append({"share": share, "smoothing": smoothing,
                   "images": (share * images + (1 - share) * images.roll(1, 0)).flatten().tolist(),
                   "labels": ((1 - smoothing) * soft + smoothing / 3).flatten().tolist()})

with open(sys.argv[1], "w") as file:
    json.dump({"logits": logits.tolist(), "teachers": [teacher.tolist() for teacher in teachers], "labels": LABELS.tolist(),
               "losses": losses, "schedules": schedules, "decay": decay,
               "mixup": {"images": images.flatten().tolist(), "labels": labels.tolist(), "mixed": mixups}},
              file, separators=(",", ":"))
    file.write("\n")
