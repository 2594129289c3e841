"""Times `distillery bench` against PyTorch, step by step in turn, so that a machine that slows down slows both.

    compare.py [w1 w2 w3 cohort] [--rounds 9] [--threads 2] [--bf16] [--program target/release/distillery]

Needs torch, numpy and safetensors. Ratios are to PyTorch eager f32 of the same round: below 1 is faster.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("workloads", nargs="*", default=["w1", "w2", "w3", "cohort"])
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--bf16", action="store_true", help="bf16 on both sides as well")
parser.add_argument("--channels-last", action="store_true", help="PyTorch with channels last as well")
parser.add_argument("--compile", action="store_true", help="torch.compile as well (needs a C++ compiler)")
parser.add_argument("--program", default=str(HERE.parent.parent / "target/release/distillery"))
parser.add_argument("--json", action="store_true")
arguments = parser.parse_args()


class Side:
    def __init__(self, name, command):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"error: `{' '.join(command)}` did not start")
        self.loss = self.ask("run 1")[3]
        self.ask("run 1")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()]

    def time(self):
        # A moment for the other side's threads to stop spinning.
        time.sleep(0.3)
        self.times.append(self.ask("run 1"))

    def end(self):
        peak = self.ask("peak")[0]
        self.process.stdin.close()
        self.process.wait()
        return peak


def compare(workload, folder):
    students = 8 if workload == "cohort" else 1
    workload = "w1" if workload == "cohort" else workload
    inputs = str(pathlib.Path(folder) / f"{workload}.safetensors")
    twin = [sys.executable, str(HERE / "twin.py"), workload]
    subprocess.run(twin + ["--write", inputs], check=True)
    twin += ["--inputs", inputs, "--threads", str(arguments.threads)]
    ours = [arguments.program, "bench", workload, "--serve", "--inputs", inputs, "--threads", str(arguments.threads)]
    if students > 1:
        sides = [
            Side(f"PyTorch, {students} runs", twin + ["--students", str(students)]),
            Side("distillery, one run", ours),
            Side(f"distillery, cohort of {students}", ours + ["--students", str(students)]),
        ]
    else:
        sides = [Side("PyTorch f32", twin), Side("distillery f32", ours)]
        if arguments.channels_last:
            sides.append(Side("PyTorch f32 channels last", twin + ["--channels-last"]))
        if arguments.compile:
            sides.append(Side("PyTorch f32 compiled", twin + ["--compile"]))
        if arguments.bf16:
            sides.append(Side("PyTorch bf16", twin + ["--bf16"]))
            sides.append(Side("distillery bf16", ours + ["--precision", "bf16"]))
    for _ in range(arguments.rounds):
        for side in sides:
            side.time()
    rows = []
    for side in sides:
        walls = [wall for wall, *_ in side.times]
        ratios = sorted(a[0] / b[0] for a, b in zip(side.times, sides[0].times))
        cpu = statistics.median((a[1] + a[2]) / (b[1] + b[2]) for a, b in zip(side.times, sides[0].times))
        rows.append({
            "workload": workload if students == 1 else "cohort", "side": side.name, "first_loss": side.loss,
            "milliseconds": [1e3 * f(walls) for f in (min, statistics.median, max)],
            "ratio": [ratios[0], statistics.median(ratios), ratios[-1]],
            "processor_time_ratio": cpu, "peak_mib": side.end(),
        })
    if students > 1:
        gains = [students * one[0] / all_[0] for one, all_ in zip(sides[1].times, sides[2].times)]
        rows[2]["gain_over_single_runs"] = [min(gains), statistics.median(gains), max(gains)]
    return rows


rows = []
with tempfile.TemporaryDirectory() as folder:
    if not arguments.json:
        print(f"{'':8}{'':28}{'ms a step: min median max':>28}{'ratio: min median max':>24}{'cpu':>7}{'MiB':>7}  loss")
    for workload in arguments.workloads:
        for row in compare(workload, folder):
            rows.append(row)
            if not arguments.json:
                ms = " ".join(f"{value:8.1f}" for value in row["milliseconds"])
                ratio = " ".join(f"{value:6.3f}" for value in row["ratio"])
                print(f"{row['workload']:8}{row['side']:28}{ms:>28}{ratio:>24}{row['processor_time_ratio']:7.2f}"
                      f"{row['peak_mib']:7.0f}  {row['first_loss']:.6f}", flush=True)
                if "gain_over_single_runs" in row:
                    gain = " ".join(f"{value:.2f}" for value in row["gain_over_single_runs"])
                    print(f"        students an hour over single runs, min median max: {gain}")
if arguments.json:
    print(json.dumps(rows, indent=1))
