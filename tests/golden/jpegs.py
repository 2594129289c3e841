"""Makes small JPEGs of every usual kind and records what PIL decodes, for `src/train/data/jpeg.rs`.

    pip install numpy pillow          (recorded with Pillow 13, libjpeg-turbo)
    python tests/golden/jpegs.py tests/golden/jpegs.json
"""
import base64
import hashlib
import io
import json
import sys

import numpy
from PIL import Image

HEIGHT, WIDTH = 133, 210
y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
# Slopes, waves, an edge and grain, as photographs have them.
waves = [numpy.sin(x / a + y / b) * 40 + numpy.cos(x * y / c) * 20 for a, b, c in ((9, 23, 300), (17, 11, 500), (31, 7, 900))]
grain = numpy.random.default_rng(0).normal(0, 6, (HEIGHT, WIDTH, 1))
values = numpy.stack(waves, 2) + 110 + 60 * ((x - 100) ** 2 + (y - 70) ** 2 < 1600)[:, :, None] + grain
picture = Image.fromarray(values.clip(0, 255).astype(numpy.uint8))

KINDS = {
    "4:2:0": (picture, dict(subsampling="4:2:0")),
    "4:2:2": (picture, dict(subsampling="4:2:2")),
    "4:4:4": (picture, dict(subsampling="4:4:4")),
    "progressive": (picture, dict(subsampling="4:2:0", progressive=True)),
    "restarts": (picture, dict(subsampling="4:2:0", restart_marker_blocks=3)),
    "grey": (picture.convert("L"), {}),
    "CMYK": (picture.convert("CMYK"), {}),
    "tiny": (picture.crop((60, 40, 65, 43)), dict(subsampling="4:2:0")),
}
recorded = []
for name, (image, options) in KINDS.items():
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, **options)
    decoded = Image.open(io.BytesIO(buffer.getvalue()))
    recorded.append({"name": name, "jpeg": base64.b64encode(buffer.getvalue()).decode(), "height": image.height,
                     "width": image.width, "channels": 1 if name == "grey" else 3, "sha256": hashlib.sha256(
                         decoded.convert("L" if name == "grey" else "RGB").tobytes()).hexdigest()})
with open(sys.argv[1], "w") as file:
    json.dump(recorded, file, indent=1)
    file.write("\n")
