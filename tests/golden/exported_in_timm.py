"""Loads what distillery exported into timm and compares its logits with those that distillery wrote.

    pip install torch timm
    distillery evaluate STUDENT --predictions logits.csv
    python tests/golden/exported_in_timm.py STUDENT.safetensors logits.csv [IMAGES.npy]

for a student of the built-in images at their own 28 px, or of other images `[N, H, W, C]` of 8 bits at their own size, shown
whole (`--crop 1`). Nothing is recorded: it says how far apart both are and fails above 1e-4 of the largest logit. What
`.ci/run` tests is that the file is, bit for bit, what timm had when it gave the recorded logits (`tests/it/parity.rs`).
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
card = json.loads(weights.with_suffix(".json").read_text())
network = timm.create_model(card["architecture"], num_classes=card["num_classes"], checkpoint_path=str(weights),
                            **card["model_args"]).eval()
channels, side, _ = card["pretrained_cfg"]["input_size"]
if len(sys.argv) > 3:
    pixels = numpy.load(sys.argv[3])
else:
    packed = pathlib.Path(__file__).parents[2] / "assets/data/fashion-mnist-8k2k/t10k-images-idx3-ubyte.gz"
    pixels = numpy.frombuffer(gzip.decompress(packed.read_bytes()), numpy.uint8, offset=16).reshape(-1, 28, 28, 1)
assert pixels.shape[1:] == (side, side, channels), "images at the student's own size"
with open(answers) as file:
    rows = list(csv.DictReader(file))
ours = numpy.array([[float(row[name]) for name in row if name.startswith("logit")] for row in rows])
pixels = pixels[[int(row["image"]) for row in rows]]
mean, std = card["pretrained_cfg"]["mean"], card["pretrained_cfg"]["std"]
images = torch.tensor((pixels / 255 - mean) / std, dtype=torch.float32).permute(0, 3, 1, 2)
with torch.no_grad():
    theirs = network(images).numpy()
error = numpy.abs(ours - theirs).max() / numpy.abs(theirs).max()
print(f"{card['architecture']} {card['model_args']}: {len(ours)} images, largest difference {error:.2e} of the largest logit")
sys.exit(int(error >= 1e-4))
