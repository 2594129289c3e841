"""Records what timm's networks answer, for `tests/it/parity.rs`.

    pip install torch timm            (recorded with torch 2.15.0 and timm 1.0.31)
    python tests/golden/timm_networks.py tests/golden/timm_networks.json

Weights and images come from a formula that the test has too, so only answers are recorded: logits of two images, and for each
tensor of the gradient of their cross-entropy its norm and its product with numbers from the same formula.
"""
import json
import math
import sys

import numpy
import timm
import torch
import torch.nn.functional as F

IMAGES, CLASSES, LABELS = 2, 10, [3, 8]


def numbers(name, count):
    """In [-1, 1): the same for the same name and place."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        x = numpy.arange(count, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15) + numpy.uint64(seed)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
    # 24 bits: exact in f32.
    return (x >> numpy.uint64(40)).astype(numpy.float64) / 2**23 - 1


def weight(name, shape):
    u = numbers(name, math.prod(shape))
    if name.endswith("bias"):
        u = 0.1 * u
    elif name.endswith(("cls_token", "pos_embed")):
        u = 0.5 * u
    elif len(shape) == 1:
        u = 1 + 0.2 * u
    else:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    return torch.tensor(u.reshape(shape), dtype=torch.float32)


def record(model, resolution, **create):
    network = timm.create_model(model, pretrained=False, num_classes=CLASSES, **create).eval()
    network.load_state_dict({name: weight(name, tuple(value.shape)) for name, value in network.state_dict().items()})
    network.double()
    for module in network.modules():
        # Of weight standardisation: as in BiT's own code and here; timm has 1e-8.
        if isinstance(module, timm.layers.StdConv2d):
            module.eps = 1e-10
    images = numbers("images", IMAGES * 3 * resolution**2).reshape(IMAGES, resolution, resolution, 3)
    logits = network(torch.tensor(images).permute(0, 3, 1, 2))
    loss = F.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    gradient = {}
    for name, tensor in network.named_parameters():
        flat = tensor.grad.flatten().numpy()
        along = numbers(f"along {name}", flat.size)
        gradient[name] = [float(numpy.linalg.norm(flat)), float(flat @ along)]
    print(model, resolution, loss.item())
    return {"model": model, "resolution": resolution, "logits": logits.flatten().tolist(), "loss": loss.item(),
            "gradient": gradient}


recorded = [record("resnetv2_50x1_bit", side) for side in (64, 96)]
recorded += [record("vit_tiny_patch16_224", side, img_size=side) for side in (32, 64)]
recorded += [record("vit_small_patch32_224", side, img_size=side) for side in (64, 96)]
with open(sys.argv[1], "w") as file:
    json.dump(recorded, file, separators=(",", ":"))
    file.write("\n")
