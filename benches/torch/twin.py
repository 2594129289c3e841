"""A workload of `distillery bench` in PyTorch.

    twin.py w1 --write FILE      weights, images and labels for both sides (safetensors), and exit
    twin.py w1 --inputs FILE     then on standard input: `run N` -> wall, user, system seconds, loss; `peak` -> MiB
"""
import argparse
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import networks

parser = argparse.ArgumentParser()
parser.add_argument("workload", choices=["w1", "w2", "w3"])
parser.add_argument("--write")
parser.add_argument("--inputs")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--bf16", action="store_true", help="autocast")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--students", type=int, default=1, help="each with its own teacher forward, one after the other")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
BATCH, SIDE, CLASSES = {"w1": (128, 32, 100), "w2": (8, 224, 1000), "w3": (128, 32, 100)}[arguments.workload]


def student():
    return {"w1": lambda: networks.small(16), "w2": networks.r50, "w3": networks.ViT}[arguments.workload]()


def teacher():
    return networks.small(32) if arguments.workload == "w1" else None


if arguments.write:
    tensors = {f"student.{name}": value for name, value in student().state_dict().items()}
    if teacher() is not None:
        tensors |= {f"teacher.{name}": value for name, value in teacher().state_dict().items()}
    # Channels last, as the other side keeps its images.
    tensors["images"] = torch.randn(BATCH, SIDE, SIDE, 3)
    tensors["labels"] = torch.randint(0, CLASSES, (BATCH,)).float()
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, arguments.write)
    sys.exit()

inputs = load_file(arguments.inputs)


def load(network, prefix):
    network.load_state_dict({k[len(prefix) + 1:]: v for k, v in inputs.items() if k.startswith(prefix + ".")})
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    return network.to(memory_format=layout)


images = inputs["images"].permute(0, 3, 1, 2)
images = images.contiguous(memory_format=torch.channels_last if arguments.channels_last else torch.contiguous_format)
labels = inputs["labels"].long()
guide = teacher()
if guide is not None:
    guide = load(guide, "teacher").eval().requires_grad_(False)
students = [load(student(), "student") for _ in range(arguments.students)]
# As `distillery bench` does it: W2 has no optimiser.
optimizers = [torch.optim.AdamW(s.parameters(), lr=1e-3, weight_decay=1e-2) for s in students]


def loss_of(network):
    if guide is None:
        return F.cross_entropy(network(images).float(), labels)
    with torch.no_grad():
        answer = guide(images).float()
    q, p = F.log_softmax(network(images).float() / 2, 1), F.softmax(answer / 2, 1)
    return 4 * F.kl_div(q, p, reduction="batchmean")


if arguments.compile:
    loss_of = torch.compile(loss_of)


def step():
    first = None
    for network, optimizer in zip(students, optimizers):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            loss = loss_of(network)
        loss.backward()
        if arguments.workload != "w2":
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        first = loss.item() if first is None else first
    return first


print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "run":
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(int(words[1])):
            loss = step()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        print(wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, loss, flush=True)
    elif words[0] == "peak":
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    else:
        break
