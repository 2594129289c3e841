"""Times how fast JPEGs become views: torchvision's DataLoader and `distillery bench loader`, in turn.

    loader.py PHOTOS [--rounds 5] [--threads 2] [--images 600] [--program target/release/distillery]

PHOTOS is a folder with JPEGs, which are pasted side by side at their own size into pictures of 500 x 375, quality 90.
Needs torch, torchvision, Pillow. Ratios are to the first pipeline's images/s of the same round: above 1 is faster.
Workers of PyTorch stay from round to round and are started before; ours is started anew, with a pass before the one
that is timed. Processor time counts all processes; on a busy machine it tells more than a rate, for the scheduler gives
more to whoever has more processes. Peak memory is the sum of what each process had at most, for PyTorch parent and workers.
"""
import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT, RESOLUTION, BATCH = 500, 375, 224, 64


def make_pictures(photos, folder, count):
    draw = random.Random(0)
    photos = sorted(pathlib.Path(photos).rglob("*.jpg"))
    for number in range(count):
        picture, y = Image.new("RGB", (WIDTH, HEIGHT)), 0
        while y < HEIGHT:
            row, x = [], 0
            while x < WIDTH:
                photo = Image.open(draw.choice(photos)).convert("RGB")
                picture.paste(photo, (x, y))
                row.append(photo.height)
                x += photo.width
            y += min(row)
        place = pathlib.Path(folder) / f"class-{number % 10}"
        place.mkdir(exist_ok=True)
        picture.save(place / f"{number:05}.jpg", quality=90)


def bytes_of(path):
    return decode_jpeg(read_file(path), mode=ImageReadMode.RGB)


def pipeline(name, folder, workers):
    crop = dict(scale=(0.05, 1.0), ratio=(3 / 4, 4 / 3))
    steps = {
        "Pillow, bytes": [transforms.RandomResizedCrop(RESOLUTION, **crop), transforms.RandomHorizontalFlip(),
                          transforms.PILToTensor()],
        "Pillow, normalised floats": [transforms.RandomResizedCrop(RESOLUTION, **crop), transforms.RandomHorizontalFlip(),
                                      transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)],
        "torchvision.io and v2, bytes": [v2.RandomResizedCrop(RESOLUTION, antialias=True, **crop),
                                         v2.RandomHorizontalFlip()],
    }[name]
    loader = bytes_of if "v2" in name else torchvision.datasets.folder.default_loader
    images = torchvision.datasets.ImageFolder(folder, transforms.Compose(steps), loader=loader)
    return torch.utils.data.DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=True)


def peak_mib(process="self"):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def processor_seconds(process="self"):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family():
    paths = pathlib.Path("/proc/self/task/").glob("*/children")
    return ["self"] + [child for path in paths for child in path.read_text().split()]


def serve(name, folder, workers):
    """In a process of its own: one pass for each line, answered with its seconds."""
    torch.set_num_threads(workers)
    loader = pipeline(name, folder, workers)
    for _ in loader:
        pass
    print("ready", flush=True)
    for line in sys.stdin:
        before, started = sum(map(processor_seconds, family())), time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        seconds = time.perf_counter() - started
        processor = sum(map(processor_seconds, family())) - before
        print(json.dumps([count / seconds, processor / count * 1e3, sum(map(peak_mib, family()))]), flush=True)


class Torch:
    def __init__(self, name, folder, workers):
        self.name, self.rates, self.processor, self.peak = f"torchvision: {name}", [], [], 0.0
        command = [sys.executable, __file__, "--serve", name, folder, "--threads", str(workers)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"error: `{' '.join(command)}` did not start")

    def time(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        rate, processor, self.peak = json.loads(self.process.stdout.readline())
        self.rates.append(rate)
        self.processor.append(processor)


class Ours:
    def __init__(self, decode, folder, threads, program):
        self.name, self.rates, self.processor, self.peak = f"distillery: {decode}", [], [], 0.0
        self.command = [program, "bench", "loader", folder, "--resolution", str(RESOLUTION), "--decode", decode,
                        "--batch", str(BATCH), "--threads", str(threads), "--steps", "1", "--json"]

    def time(self):
        used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        before = used()
        row = json.loads(subprocess.run(self.command, check=True, stdout=subprocess.PIPE).stdout)
        # Of two passes.
        self.processor.append((used() - before) / (2 * row["images"]) * 1e3)
        self.rates.append(row["images_per_second_median"])
        self.peak = max(self.peak, row["peak_mib"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--program", default=str(HERE.parent.parent / "target/release/distillery"))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.photos, arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(arguments.photos, folder, arguments.images)
        names = ["Pillow, bytes", "Pillow, normalised floats", "torchvision.io and v2, bytes"]
        sides = [Torch(name, folder, arguments.threads) for name in names]
        sides += [Ours(decode, folder, arguments.threads, arguments.program) for decode in ("full", "reduced")]
        for _ in range(arguments.rounds):
            for side in sides:
                # A moment for the other side's processes to come to rest.
                time.sleep(0.3)
                side.time()
        print("| | images/s, min / median / max | ratio, min / **median** / max | to torchvision.io | processor ms an image | peak MiB |")
        print("|---|---|---|---|---|---|")
        for side in sides:
            cells = [spread(side.rates, "{:.0f}")]
            cells += [spread([a / b for a, b in zip(side.rates, base.rates)], "{:.2f}") for base in (sides[0], sides[2])]
            cells.append(spread(side.processor, "{:.2f}"))
            print(f"| {side.name} | {' | '.join(cells)} | {side.peak:.0f} |")
        for side in sides[:3]:
            side.process.stdin.close()
            side.process.wait()


def spread(values, form):
    return " / ".join(form.format(value) for value in (min(values), statistics.median(values), max(values)))


if __name__ == "__main__":
    main()
