"""Records what torchvision makes of boxes of small pictures, for `src/train/resample.rs`.

    pip install torchvision           (recorded with torchvision 0.29 and Pillow 13)
    python tests/golden/views.py tests/golden/views.json

Without antialias on tensors, with antialias on PIL's pictures: what each of them can.
"""
import json
import sys

import numpy
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop

# Height, width, channels of the picture; left, top, width, height of the box; resolution.
CASES = [
    (40, 61, 3, (0, 0, 61, 40), 16), (40, 61, 3, (7, 3, 41, 33), 12), (40, 61, 3, (20, 11, 9, 13), 24),
    (40, 61, 1, (5, 2, 50, 37), 17), (40, 61, 1, (30, 30, 8, 8), 11), (33, 33, 3, (0, 0, 33, 33), 33),
    (33, 33, 3, (1, 2, 24, 24), 24), (64, 48, 3, (10, 20, 1, 5), 6), (64, 48, 3, (0, 0, 48, 64), 3),
    (64, 48, 1, (11, 0, 37, 64), 29)]


def picture(height, width, channels):
    i = numpy.arange(height * width * channels)
    values = (i * i * 31 % 251).astype(numpy.uint8).reshape(height, width, channels)
    return Image.fromarray(values if channels == 3 else values[:, :, 0])


recorded = []
for number, (height, width, channels, (left, top, across, down), resolution) in enumerate(CASES):
    image = picture(height, width, channels)
    for name in ("bilinear", "bilinear-antialias", "bicubic"):
        mode = InterpolationMode.BICUBIC if name == "bicubic" else InterpolationMode.BILINEAR
        source = pil_to_tensor(image) if name == "bilinear" else image
        view = resized_crop(source, top, left, down, across, [resolution] * 2, mode, antialias=name != "bilinear")
        flip = number % 2 == 1
        view = hflip(view) if flip else view
        view = view if torch.is_tensor(view) else pil_to_tensor(view)
        recorded.append({"height": height, "width": width, "channels": channels, "box": [left, top, across, down],
                         "resolution": resolution, "resize": name, "flip": flip,
                         "pixels": view.permute(1, 2, 0).flatten().tolist()})
with open(sys.argv[1], "w") as file:
    json.dump(recorded, file, separators=(",", ":"))
    file.write("\n")
