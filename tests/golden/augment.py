"""Records what torchvision's augmentations make of small pictures, for `src/train/augment.rs`.

    pip install torchvision           (recorded with torchvision 0.29 and Pillow 13)
    python tests/golden/augment.py tests/golden/augment.json
"""
import json
import sys

import numpy
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

BINS = 31
# TrivialAugment's translations are 32 pixels at most for any picture; here they are a share of a picture of 224.
SIDE = 224


def strengths(space, side):
    """Of each operation: 31 strengths or one, and whether they have a sign."""
    if space == "rand-augment":
        table = transforms.RandAugment()._augmentation_space(BINS, (side, side))
    else:
        table = transforms.TrivialAugmentWide()._augmentation_space(BINS)
    every = {}
    for name, (magnitudes, signed) in table.items():
        magnitudes = [float(x) for x in magnitudes.reshape(-1)]
        if space == "trivial-augment" and name.startswith("Translate"):
            magnitudes = [x * side / SIDE for x in magnitudes]
        every[name] = (magnitudes, signed)
    return every


def picture(kind, side, channels):
    i = numpy.arange(side * side * channels)
    spread = {"full": i * i * 31 % 256, "dim": 60 + i * i * 31 % 97, "even": 0 * i + 77}[kind]
    pixels = spread.astype(numpy.uint8).reshape(side, side, channels)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


# At 224 pixels, so that the shares of both are whole there.
tables = [{"space": space, "operation": name, "signed": signed, "strengths": magnitudes}
          for space in ("rand-augment", "trivial-augment")
          for name, (magnitudes, signed) in strengths(space, SIDE).items()]

# RandAugment's, in whole pixels.
shifts = [{"side": side, "pixels": [int(x) for x in strengths("rand-augment", side)["TranslateX"][0]]}
          for side in (24, 32, 160, 224, 331)]

applied = []


def apply(space, name, place, negative, kind, side, channels):
    magnitude = strengths(space, side)[name][0][place]
    magnitude = -magnitude if negative else magnitude
    image = _apply_op(picture(kind, side, channels), name, magnitude, InterpolationMode.NEAREST, None)
    strength = magnitude / side if name.startswith("Translate") else magnitude
    applied.append({"operation": name, "strength": strength, "picture": kind, "side": side, "channels": channels,
                    "pixels": numpy.asarray(image).tobytes().hex()})


for space in ("rand-augment", "trivial-augment"):
    for name, (magnitudes, signed) in strengths(space, SIDE).items():
        several = (0, 9, 30) if space == "rand-augment" else (11, 20, 30)
        places = several if len(magnitudes) > 1 else (0,)
        for place in places:
            for negative in (False, True) if signed else (False,):
                apply(space, name, place, negative, "full", 9, 3)
                apply(space, name, place, negative, "dim", 10, 1)
# Equalize does nothing to fewer than 256 pixels, and turns and shears show more in larger pictures.
for name in ("Equalize", "AutoContrast"):
    for kind in ("full", "dim", "even"):
        for channels in (1, 3):
            apply("rand-augment", name, 0, False, kind, 24, channels)
for name in ("Rotate", "ShearX", "ShearY", "Contrast", "Sharpness"):
    for place in (7, 29):
        for negative in (False, True):
            apply("trivial-augment", name, place, negative, "full", 23, 1)
            apply("trivial-augment", name, place, negative, "dim", 14, 3)
# Pictures that are all edge.
for side in (1, 2):
    for name in ("Sharpness", "Rotate", "ShearX", "TranslateY", "Color", "Equalize"):
        apply("rand-augment", name, 0 if name == "Equalize" else 30, False, "dim", side, 3)

with open(sys.argv[1], "w") as file:
    json.dump({"tables": tables, "shifts": shifts, "applied": applied}, file, separators=(",", ":"))
    file.write("\n")
