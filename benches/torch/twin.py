"""A workload of `distillery bench` in PyTorch.

    twin.py w1 --write FILE      weights, images and labels for both sides (safetensors), and exit
    twin.py w1 --inputs FILE     then on standard input: `run N` -> wall, user, system seconds, loss; `peak` -> MiB

The peak is the process's memory; with `--device cuda` what PyTorch held of the device's, its search for cuDNN's
algorithms in the first `run` left out. f32 is f32 there, not TF32, unless `--tf32`.
"""
import argparse
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import networks

# Batch, side, classes, student, teacher.
WORKLOADS = {
    "w1": (128, 32, 100, lambda: networks.small(16), lambda: networks.small(32)),
    "w2": (8, 224, 1000, networks.r50, None),
    "w3": (128, 32, 100, networks.ViT, None),
    "r50": (64, 224, 1000, networks.r50, None),
    "r152-r50": (64, 224, 1000, networks.r50, networks.r152x2),
}
parser = argparse.ArgumentParser()
parser.add_argument("workload", choices=list(WORKLOADS))
parser.add_argument("--write")
parser.add_argument("--inputs")
parser.add_argument("--batch", type=int, help="images a step, both for --write and --inputs")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--bf16", action="store_true", help="autocast, the teacher's forward pass as well")
parser.add_argument("--frozen-teacher", action="store_true",
                    help="the teacher's kernels standardised once, and with --bf16 its weights in bf16, no autocast")
parser.add_argument("--tf32", action="store_true")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--students", type=int, default=1, help="each with its own teacher forward, one after the other")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
BATCH, SIDE, CLASSES, student, teacher = WORKLOADS[arguments.workload]
BATCH = arguments.batch or BATCH
CUDA = arguments.device == "cuda"

if arguments.write:
    tensors = {f"student.{name}": value for name, value in student().state_dict().items()}
    if teacher is not None:
        tensors |= {f"teacher.{name}": value for name, value in teacher().state_dict().items()}
    # Channels last, as the other side keeps its images.
    tensors["images"] = torch.randn(BATCH, SIDE, SIDE, 3)
    tensors["labels"] = torch.randint(0, CLASSES, (BATCH,)).float()
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, arguments.write)
    sys.exit()

if CUDA:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.tf32
    torch.backends.cudnn.benchmark = True

inputs = load_file(arguments.inputs)
layout = torch.channels_last if arguments.channels_last else torch.contiguous_format


def load(network, prefix):
    network.load_state_dict({k[len(prefix) + 1:]: v for k, v in inputs.items() if k.startswith(prefix + ".")})
    return network.to(arguments.device, memory_format=layout)


images = inputs["images"].permute(0, 3, 1, 2).to(arguments.device)
images = images.contiguous(memory_format=layout)
labels = inputs["labels"].long().to(arguments.device)
if len(images) != BATCH:
    sys.exit(f"error: the inputs hold {len(images)} images, not {BATCH}")
guide, guided = None, images
if teacher is not None:
    guide = load(teacher(), "teacher").eval().requires_grad_(False)
    if arguments.frozen_teacher:
        for module in guide.modules():
            if isinstance(module, networks.Standardized):
                module.freeze()
        if arguments.bf16:
            guide, guided = guide.to(torch.bfloat16), images.to(torch.bfloat16)
students = [load(student(), "student") for _ in range(arguments.students)]
# As `distillery bench` does it: W2 has no optimiser.
optimizers = [torch.optim.AdamW(s.parameters(), lr=1e-3, weight_decay=1e-2, fused=CUDA or None) for s in students]


def loss_of(network):
    if guide is None:
        return F.cross_entropy(network(images).float(), labels)
    with torch.no_grad():
        if arguments.frozen_teacher:
            with torch.autocast(arguments.device, enabled=False):
                answer = guide(guided).float()
        else:
            answer = guide(images).float()
    q, p = F.log_softmax(network(images).float() / 2, 1), F.softmax(answer / 2, 1)
    return 4 * F.kl_div(q, p, reduction="batchmean")


if arguments.compile:
    loss_of = torch.compile(loss_of)


def step():
    first = None
    for network, optimizer in zip(students, optimizers):
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.bf16):
            loss = loss_of(network)
        loss.backward()
        if arguments.workload != "w2":
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if first is None:
            # Asking for the number would wait for the device.
            first = loss.detach() if CUDA else loss.item()
    return first


def synchronize():
    if CUDA:
        torch.cuda.synchronize()


searched = False
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "run":
        synchronize()
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(int(words[1])):
            loss = step()
        synchronize()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        loss = float(loss)
        print(wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, loss, flush=True)
        if CUDA and not searched:
            searched = True
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    elif words[0] == "peak":
        if CUDA:
            print(torch.cuda.max_memory_reserved() / 2**20, flush=True)
        else:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    else:
        break
