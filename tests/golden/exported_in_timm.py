"""Loads what distillery exported into timm and compares its logits with those that distillery wrote.

    pip install torch timm
    distillery evaluate STUDENT --predictions logits.csv
    python tests/golden/exported_in_timm.py STUDENT.safetensors logits.csv [IMAGES]

for a student of the built-in images at their own 28 px, shown whole (`--crop 1`). Nothing is recorded: it says how far
apart both are and fails above 1e-4 of the largest logit.
"""
import csv
import gzip
import json
import pathlib
import sys

import numpy
import timm
import torch

weights, answers = pathlib.Path(sys.argv[1]), sys.argv[2]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 200
card = json.loads(weights.with_suffix(".json").read_text())
network = timm.create_model(card["architecture"], num_classes=card["num_classes"], checkpoint_path=str(weights),
                            **card["model_args"]).eval()
channels, side, _ = card["pretrained_cfg"]["input_size"]
packed = pathlib.Path(__file__).parents[2] / "assets/data/fashion-mnist-8k2k/t10k-images-idx3-ubyte.gz"
pixels = numpy.frombuffer(gzip.decompress(packed.read_bytes()), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
assert (channels, side) == (1, 28), "a student of the built-in images at their own size"
mean, std = card["pretrained_cfg"]["mean"][0], card["pretrained_cfg"]["std"][0]
images = torch.tensor((pixels / 255 - mean) / std, dtype=torch.float32)
with torch.no_grad():
    theirs = network(images).numpy()
with open(answers) as file:
    ours = numpy.array([[float(row[name]) for name in row if name.startswith("logit")] for row in csv.DictReader(file)])
ours = ours[:count]
error = numpy.abs(ours - theirs).max() / numpy.abs(theirs).max()
print(f"{card['architecture']} {card['model_args']}: {len(ours)} images, largest difference {error:.2e} of the largest logit")
sys.exit(int(error >= 1e-4))
