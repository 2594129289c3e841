"""The layers of `benches/ops.rs` in PyTorch on one thread, in turn with `cargo bench --bench ops`.

    ops.py [--rounds 3] [NAME ...]

Both sides add learned numbers to the images, run the layer, take the mean over pixels and a cross-entropy, and go back.
"""
import argparse
import json
import re
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
parser = argparse.ArgumentParser()
parser.add_argument("names", nargs="*")
parser.add_argument("--rounds", type=int, default=3)
arguments = parser.parse_args()


def conv(ci, co, size, stride=1, groups=1):
    w = torch.randn(co, ci // groups, size, size, requires_grad=True)
    return [w], lambda x: F.conv2d(x, w, None, stride, size // 2, 1, groups)


def affine(c):
    return [torch.ones(c, requires_grad=True), torch.zeros(c, requires_grad=True)]


def group_norm():
    p = affine(16)
    return p, lambda x: F.relu(F.group_norm(x, 8, *p))


def layer_norm():
    p = affine(192)
    return p, lambda x: F.layer_norm(x, (192,), *p, 1e-6)


def linear():
    p = [torch.randn(768, 192, requires_grad=True), torch.zeros(768, requires_grad=True)]
    return p, lambda x: F.linear(x, *p)


def attention():
    def run(x):
        n, t, _ = x.shape
        q, k, v = x.view(n, t, 3, 3, 64).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, 192)
    return [], run


OPS = {
    "conv3x3::16x32": ((32, 16, 32, 32), lambda: conv(16, 16, 3)),
    "conv3x3::32x32": ((32, 32, 32, 32), lambda: conv(32, 32, 3)),
    "conv3x3::64x8": ((32, 64, 8, 8), lambda: conv(64, 64, 3)),
    "conv3x3::128x8": ((32, 128, 8, 8), lambda: conv(128, 128, 3)),
    "conv3x3_stride2": ((32, 32, 32, 32), lambda: conv(32, 64, 3, 2)),
    "conv1x1": ((4, 256, 28, 28), lambda: conv(256, 128, 1)),
    "depthwise": ((8, 96, 28, 28), lambda: conv(96, 96, 3, 1, 96)),
    "group_norm_relu": ((32, 16, 32, 32), group_norm),
    "layer_norm": ((32, 65, 192), layer_norm),
    "linear": ((32, 65, 192), linear),
    "gelu": ((32, 65, 768), lambda: ([], F.gelu)),
    "attention": ((32, 65, 576), attention),
    "max_pool": ((4, 64, 112, 112), lambda: ([], lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2))),
}


def torch_milliseconds(shape, make):
    parameters, layer = make()
    x, shift = torch.randn(shape), torch.zeros(shape[1:], requires_grad=True)
    times = []
    for _ in range(12):
        started = time.perf_counter()
        y = layer(x + shift)
        logits = y.mean((2, 3)) if y.dim() == 4 else y.mean(1)
        loss = -F.log_softmax(logits, 1).mean()
        torch.autograd.grad(loss, [shift] + parameters)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[2:])


built = subprocess.run(["cargo", "bench", "--bench", "ops", "--no-run", "--message-format=json"],
                       check=True, stdout=subprocess.PIPE, text=True).stdout
messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
program = next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "ops")
UNIT = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def our_milliseconds(name):
    # A regular expression over paths: the end keeps `conv3x3` from naming its neighbours.
    command = [program, "--bench", f"ops::{name}$", "--sample-count", "10"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) > 3 and re.fullmatch(r"[\d.]+ (ns|µs|ms|s)", cells[2]):
            value, unit = cells[2].split()
            return float(value) * UNIT[unit]
    raise SystemExit(f"error: no time for `{name}` in\n{out}")


print(f"{'layer':20}{'PyTorch ms':>12}{'ours ms':>10}{'ratio: min median max':>24}")
for name, (shape, make) in OPS.items():
    if arguments.names and name not in arguments.names:
        continue
    pairs = [(torch_milliseconds(shape, make), our_milliseconds(name)) for _ in range(arguments.rounds)]
    ratios = sorted(ours / theirs for theirs, ours in pairs)
    theirs, ours = (statistics.median(side) for side in zip(*pairs))
    ratio = f"{ratios[0]:.2f} {statistics.median(ratios):.2f} {ratios[-1]:.2f}"
    print(f"{name:20}{theirs:12.2f}{ours:10.2f}{ratio:>24}", flush=True)
