"""Records what timm's networks and one of torch's own answer, for `tests/it/parity.rs`.

    pip install torch timm            (recorded with torch 2.15.0 and timm 1.0.31)
    python tests/golden/timm_networks.py tests/golden/timm_networks.json

Weights and images come from a formula that the test has too, so only answers are recorded: logits of two images, and for each
tensor of the gradient of their cross-entropy its norm and its product with numbers from the same formula; the same of
BatchNorm's running statistics after that step; and positions as timm interpolates them.
"""
import json
import math
import sys

import numpy
import timm
import torch
import torch.nn.functional as F

IMAGES, CLASSES, LABELS = 2, 10, [3, 8]


class CifarBlock(torch.nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.stride, self.pad = stride, (channels - before) // 2
        self.conv1 = torch.nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.pad, self.pad)))


class CifarResnet(torch.nn.Module):
    """arXiv 1512.03385, 4.2, with shortcuts of option A."""

    def __init__(self, depth):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        before = 16
        for stage, channels in enumerate((16, 32, 64)):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(CifarBlock(before, channels, 2 if stage > 0 and block == 0 else 1))
                before = channels
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(*blocks))
        self.linear = torch.nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


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
    if name.endswith(("bias", "running_mean")):
        u = 0.1 * u
    elif name.endswith(("cls_token", "pos_embed")):
        u = 0.5 * u
    elif len(shape) == 1:
        u = 1 + 0.2 * u
    else:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    return torch.tensor(u.reshape(shape), dtype=torch.float32)


def record(model, resolution, network=None, architecture=None, **arguments):
    """Logits as the network is used, loss and gradient as it is trained: with BatchNorm they are not of one mode.

    Of `architecture`, where there is one, timm makes the network from nothing but its name and `arguments`.
    """
    if network is None:
        network = timm.create_model(architecture, pretrained=False, num_classes=CLASSES, **arguments)
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        network.drop_rate = 0.0
    state = network.state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    network.load_state_dict(
        {name: value if name in counters else weight(name, tuple(value.shape)) for name, value in state.items()}
    )
    network.double().eval()
    images = numbers("images", IMAGES * 3 * resolution**2).reshape(IMAGES, resolution, resolution, 3)
    images = torch.tensor(images).permute(0, 3, 1, 2)
    logits = network(images)
    for module in network.modules():
        # Logits are timm's as it is. Of gradients, a ReLU that switches makes a hundredth: weight standardisation has
        # the epsilon of BiT's own code and of distillery, where timm has 1e-8.
        if isinstance(module, timm.layers.StdConv2d):
            module.eps = 1e-10
    if counters:
        network.train()
    loss = F.cross_entropy(network(images), torch.tensor(LABELS))
    loss.backward()
    gradient = {}
    for name, tensor in network.named_parameters():
        flat = tensor.grad.flatten().numpy()
        along = numbers(f"along {name}", flat.size)
        gradient[name] = [float(numpy.linalg.norm(flat)), float(flat @ along)]
    running = {}
    for name, tensor in network.state_dict().items():
        if "running" in name:
            flat = tensor.flatten().numpy()
            running[name] = [float(numpy.linalg.norm(flat)), float(flat @ numbers(f"along {name}", flat.size))]
    print(model, resolution, loss.item())
    shapes = {name: list(tensor.shape) for name, tensor in state.items() if name not in counters}
    return {"model": model, "architecture": architecture, "arguments": arguments, "shapes": shapes, "resolution": resolution, "logits": logits.flatten().tolist(), "loss": loss.item(),
            "gradient": gradient, "running": running}


def positions(before, after, prefix):
    """Positions of a grid of patches brought to another by timm, behind `prefix` tokens."""
    name = f"positions {before}"
    embedding = torch.tensor(numbers(name, (prefix + before**2) * 4).reshape(1, -1, 4), dtype=torch.float32)
    resampled = timm.layers.resample_abs_pos_embed(embedding, [after, after], num_prefix_tokens=prefix)
    return {"before": before, "after": after, "prefix": prefix, "numbers": resampled.flatten().tolist()}


def bit(layers, width):
    return timm.models.resnetv2._create_resnetv2_bit(
        "resnetv2_50x1_bit", pretrained=False, layers=layers, width_factor=width, num_classes=CLASSES)


def in_groups(network):
    """GroupNorm with 8 groups in place of BatchNorm."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, timm.layers.BatchNormAct2d):
                norm = timm.layers.GroupNormAct(child.num_features, num_groups=8, eps=1e-5)
                norm.drop, norm.act = child.drop, child.act
                setattr(module, name, norm)
    return network


def vit(model, side, width, heads, patch, **more):
    """As cards of vision transformers have it: any of them from one name."""
    return record(model, side, architecture="vit_tiny_patch16_224", img_size=side, patch_size=patch, embed_dim=width,
                  depth=12, num_heads=heads, **more)


MEAN = {"class_token": False, "global_pool": "avg", "fc_norm": False}
recorded = [record("resnetv2_50x1_bit", side, architecture="resnetv2_50x1_bit") for side in (64, 96)]
recorded += [record("bit 26x2", side, bit([2, 2, 2, 2], 2)) for side in (32, 64)]
recorded += [vit("vit_tiny_patch16_224", side, 192, 3, 16) for side in (32, 64)]
recorded += [vit("vit_tiny_patch16_224 mean", side, 192, 3, 16, **MEAN) for side in (32, 64)]
recorded += [vit("vit_small_patch32_224", side, 384, 6, 32) for side in (64, 96)]
for size in ("large", "small"):
    name = f"mobilenetv3_{size}_100"
    recorded += [record(f"{name} group", side, in_groups(timm.create_model(name, num_classes=CLASSES, drop_rate=0)))
                 for side in (64, 96)]
    recorded += [record(name, side, architecture=name) for side in (64, 96)]
recorded += [record("cifar-resnet 20", side, CifarResnet(20)) for side in (24, 32)]
answer = {"networks": recorded, "positions": [positions(*of) for of in ((2, 4, 1), (6, 4, 0), (3, 7, 1), (5, 2, 1))]}
with open(sys.argv[1], "w") as file:
    json.dump(answer, file, separators=(",", ":"))
    file.write("\n")
