"""Records what torchvision's evaluation crops make of a small picture, for `src/train/resample.rs`.

    pip install torchvision           (recorded with torchvision 0.30 and Pillow 12)
    python tests/golden/evaluation_crops.py tests/golden/evaluation_crops.json
"""
import json
import math
import sys

import numpy
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

MODES = {"box": InterpolationMode.BOX, "bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}

recorded = []
for height, width in ((7, 5), (40, 61), (32, 32)):
    i = numpy.arange(height * width * 3)
    picture = Image.fromarray((i * i * 31 % 251).astype(numpy.uint8).reshape(height, width, 3))
    for resolution, crop in ((8, 0.875), (21, 1.0)):
        for name, mode in MODES.items():
            crops = transforms.Compose([
                transforms.Resize(math.floor(resolution / crop), mode), transforms.CenterCrop(resolution)])
            pixels = numpy.asarray(crops(picture)).flatten().tolist()
            recorded.append({"height": height, "width": width, "resolution": resolution, "crop": crop,
                             "interpolation": name, "pixels": pixels})
with open(sys.argv[1], "w") as file:
    json.dump(recorded, file, separators=(",", ":"))
    file.write("\n")
