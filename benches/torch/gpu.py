"""Times `distillery bench --device cuda` against PyTorch on one card, step by step in turn, in one call of some minutes.

    python benches/torch/gpu.py --program ./distillery [--minutes 9] [--rows r50 r152-r50 w1 w3 cohort] [--json FILE]
    python benches/torch/gpu.py --device cpu --batch 2 --rounds 2 --steps 1 --only torch       a try without a card

Needs torch, numpy and safetensors, and for the compiled sides a C compiler. Ratios are to PyTorch eager of the same
precision and round: below 1 is faster. (Not named cuda.py: PyTorch imports a package `cuda`, which that would hide.)
"""
import argparse
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import torch

STARTED = time.monotonic()
ROWS = ["r50", "r152-r50", "w1", "w3", "cohort"]
# Multiply-adds of an image's forward pass in units of 10^9: convolutions, linear layers and attention, as
# `distillery bench` counts (FlopCounterMode agrees). A step is three passes of each student and one of the teacher.
R50, R152X2 = 4.0892, 45.8144
GMACS = {"r50": (R50, 0), "r152-r50": (R50, R152X2), "w1": (0.040819, 0.162378), "w3": (0.182867, 0)}
WARM_UP, ROOM_GIB = 5, 30
# Seconds for the last lines and the ends of processes.
RESERVE = 10

parser = argparse.ArgumentParser()
parser.add_argument("--program", default="target/release/distillery")
parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
parser.add_argument("--minutes", type=float, default=9)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--batch", type=int, help="of every row [default: 64, of w1 and w3 512]")
parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
parser.add_argument("--only", choices=["torch", "ours"])
parser.add_argument("--no-compile", action="store_true", help="no compiled sides")
parser.add_argument("--contiguous", action="store_true", help="PyTorch eager in its default layout as well")
parser.add_argument("--train", nargs="*", default=["precision", "quickstart"], metavar="EXPERIMENT",
                    help="experiments that are trained on the card with what time is left")
parser.add_argument("--out", default="gpu", metavar="DIR", help="where their figures and tables go [default: gpu]")
parser.add_argument("--json", metavar="FILE")
arguments = parser.parse_args()
CUDA = arguments.device == "cuda"
DEADLINE = STARTED + 60 * arguments.minutes
HERE = pathlib.Path(__file__).resolve().parent
# Ours is to use the libraries that PyTorch brought, wherever they lie.
LIBRARIES = sorted(pathlib.Path(torch.__path__[0]).parent.glob("nvidia/*/lib"))
os.environ["DISTILLERY_CUDA_LIBRARIES"] = os.pathsep.join(
    [*filter(None, [os.environ.get("DISTILLERY_CUDA_LIBRARIES")]), *map(str, LIBRARIES)])
report = {"rows": [], "failures": [], "not_measured": []}
# Lines on standard output, and those that results still need.
printed, kept = 0, 8 * len(arguments.rows) + 4


def left():
    return DEADLINE - RESERVE - time.monotonic()


def say(line, detail=False):
    """Prints; of details not more than keep everything under 60 lines (`--json` has them all)."""
    global printed
    if not detail or printed + kept < 60:
        print(line, flush=True)
        printed += 1


def free_gib():
    return torch.cuda.mem_get_info()[0] / 2**30 if CUDA else float("inf")


class Failed(Exception):
    pass


class Side:
    """A process that answers `run N`; between `start` and `end` it is resident."""

    def __init__(self, name, command, precision="bf16", students=1):
        self.name, self.command, self.precision, self.students = name, command, precision, students
        self.times, self.outside, self.losses, self.peak = [], [], None, None
        self.process, self.failure, self.until = None, None, DEADLINE

    def start(self):
        # What compiles for too long leaves the others time to be measured.
        self.until = time.monotonic() + 0.4 * left()
        self.errors = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.errors, text=True)
        except OSError as error:
            raise Failed(str(error)) from error
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.lines), daemon=True).start()
        if self.hear() != "ready":
            raise Failed("it did not say `ready`")

    @staticmethod
    def read(stream, lines):
        for line in stream:
            lines.put(line.strip())
        lines.put(None)

    def hear(self):
        try:
            line = self.lines.get(timeout=max(min(left(), self.until - time.monotonic()), 0.1))
        except queue.Empty:
            raise Failed("no answer in its share of the time") from None
        if line is None:
            self.process.wait()
            raise Failed(f"it ended with {self.process.returncode}")
        return line

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(str(error)) from error
        answer = self.hear()
        try:
            return [float(word) for word in answer.split()]
        except ValueError:
            raise Failed(f"it answered `{answer}`") from None

    def warm(self):
        first = self.ask("run 1")[3]
        losses = [first, self.ask(f"run {WARM_UP - 1}")[3]]
        self.losses = self.losses or losses
        self.until = DEADLINE

    def time(self):
        # A moment for the other side's threads to stop spinning.
        time.sleep(0.1)
        began = time.perf_counter()
        self.times.append(self.ask(f"run {arguments.steps}")[0] / arguments.steps)
        self.outside.append((time.perf_counter() - began) / arguments.steps)

    def end(self):
        if self.process is None:
            return
        try:
            if self.failure is not None:
                raise Failed
            if self.times:
                self.peak = max(self.ask("peak")[0], self.peak or 0)
            self.process.stdin.close()
            self.process.wait(timeout=5)
        except (Failed, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process = None

    def fail(self, workload, why):
        """Notes why, with the last lines of standard error."""
        self.failure = str(why)
        self.end()
        self.errors.seek(0)
        last = [line.rstrip()[-160:] for line in self.errors.read().splitlines() if line.strip()][-4:]
        report["failures"].append({"workload": workload, "side": self.name, "why": self.failure, "stderr": last})

    def attempt(self, workload, *calls):
        """Does the calls; false when one failed."""
        try:
            for call in calls:
                call()
        except Failed as why:
            self.fail(workload, why)
        return self.failure is None


def batch_of(workload):
    return arguments.batch or (512 if workload in ("w1", "w3") else 64)


def twin(workload, folder, *more):
    base = [sys.executable, str(HERE / "twin.py"), workload, "--batch", str(batch_of(workload))]
    return base + ["--inputs", str(folder / f"{workload}.safetensors"), "--device", arguments.device, *more]


def sides_of(row, folder):
    workload = "r152-r50" if row == "cohort" else row
    inputs = str(folder / f"{workload}.safetensors")

    def ours(name, *more, precision="bf16", students=1):
        command = [arguments.program, "bench", workload, "--device", arguments.device, "--batch", str(batch_of(workload))]
        command += ["--students", str(students), "--precision", precision, *more, "--inputs", inputs, "--serve"]
        return Side(f"distillery {name}", command, precision, students)

    def theirs(name, *more, precision="bf16"):
        return Side(f"PyTorch {name}", twin(workload, folder, *more), precision)

    fast = ["--bf16", "--channels-last"]
    sides = [ours("bf16"), theirs("eager bf16", *fast)]
    if row == "cohort":
        sides[0] = ours("bf16, 8 students", students=8)
    if row == "r50":
        sides.append(ours("bf16 determ.", "--deterministic"))
    if arguments.contiguous and row != "cohort":
        sides.append(theirs("eager bf16 NCHW", "--bf16"))
    if row in ("w1", "w3"):
        sides += [ours("f32", precision="f32"), theirs("eager f32", precision="f32")]
    if not arguments.no_compile:
        # Last, for compiling can take longer than there is time.
        sides.append(theirs("compiled bf16", *fast, "--compile"))
        if row in ("r152-r50", "cohort"):
            sides.append(theirs("comp., bf16 teacher", *fast, "--compile", "--frozen-teacher"))
    unwanted = {"torch": "distillery", "ours": "PyTorch", None: "nothing"}[arguments.only]
    return workload, [side for side in sides if not side.name.startswith(unwanted)]


def measure(row, folder):
    workload, sides = sides_of(row, folder)
    in_turn = False
    for i, side in enumerate(sides):
        # The first has the card to itself, so it can start whatever is free.
        if i and not in_turn and free_gib() < ROOM_GIB:
            in_turn = True
            for other in sides[:i]:
                other.end()
        if not in_turn:
            side.attempt(row, side.start, side.warm)
    slowest = 0.0
    for done in range(arguments.rounds):
        if done and left() < slowest:
            break
        began = time.monotonic()
        for side in sides:
            if side.failure is None and in_turn:
                side.attempt(row, side.start, side.warm, side.time)
                side.end()
            elif side.failure is None:
                side.attempt(row, side.time)
        slowest = max(slowest, time.monotonic() - began)
    for side in sides:
        side.end()
    show(row, workload, sides, in_turn)


def show(row, workload, sides, in_turn):
    student, teacher = GMACS[workload]
    for side in sides:
        if not side.times:
            continue
        eager = next((s for s in sides if s.name == f"PyTorch eager {side.precision}"), None)
        # Of one student.
        pairs = zip(side.times, eager.times if eager else [])
        ratios = sorted(a / side.students / b for a, b in pairs)
        median = statistics.median(side.times)
        flop = 2e9 * batch_of(workload) * (teacher + 3 * student * side.students)
        peak = report.get("matrix_peak_tflops")
        report["rows"].append({
            "row": row, "side": side.name, "batch": batch_of(workload), "students": side.students, "in_turn": in_turn,
            "milliseconds": [1e3 * f(side.times) for f in (min, statistics.median, max)],
            "every_millisecond": [1e3 * t for t in side.times],
            "every_millisecond_by_this_clock": [1e3 * t for t in side.outside],
            "ratio": [ratios[0], statistics.median(ratios), ratios[-1]] if ratios else None,
            "images_per_second": batch_of(workload) * side.students / median,
            "tflops": flop / median / 1e12, "share_of_peak": flop / median / 1e12 / peak if peak else None,
            "peak_mib": side.peak, "first_loss": side.losses[0], f"loss_after_{WARM_UP}": side.losses[1],
        })
        now = report["rows"][-1]
        ms = " ".join(f"{value:7.1f}" for value in now["milliseconds"])
        ratio = f"{now['ratio'][1]:6.3f}" if ratios else "     -"
        # The peak is that of bf16.
        share = f"{now['share_of_peak']:6.1%}" if peak and side.precision == "bf16" else "     -"
        memory = f"{side.peak:7.0f}" if side.peak is not None else "      -"
        # A side that answers before the device is done would look fast.
        doubt = " (slower by this clock)" if statistics.median(side.outside) > 1.05 * median + 1e-2 / arguments.steps else ""
        rate = f"{now['images_per_second']:8.0f}"
        say(f"{row:9}{side.name:29}{ms}{ratio}{rate} {share}{memory}  {side.losses[0]:.6f}{doubt}")
    for precision in ("bf16", "f32"):
        ours = next((s for s in sides if s.losses and s.name.startswith("distillery") and s.precision == precision), None)
        eager = next((s for s in sides if s.losses and s.name == f"PyTorch eager {precision}"), None)
        if ours and eager:
            compare(row, precision, ours, eager)
    cohort = next((s for s in sides if s.students > 1 and s.times), None)
    gains = {}
    for side in sides:
        if cohort and side.times and side is not cohort:
            each = [cohort.students * b / a for a, b in zip(cohort.times, side.times)]
            gains[side.name] = [min(each), statistics.median(each), max(each)]
    if gains:
        report["cohort_gain"] = gains
        say("   students an hour over " + "; ".join(f"{name}: {gain[1]:.2f}" for name, gain in gains.items()))
    plain, exact = (next((s for s in sides if s.times and s.name == f"distillery {name}"), None)
                    for name in ("bf16", "bf16 determ."))
    if plain and exact:
        cost = statistics.median(b / a for a, b in zip(plain.times, exact.times)) - 1
        report["deterministic_cost"] = cost
        say(f"   --deterministic costs {cost:+.1%}")
    for failure in report["failures"]:
        if failure["workload"] == row:
            say(f"   FAILED {row}, {failure['side']}: {failure['why']}")
            for line in failure["stderr"]:
                say("     | " + line, detail=True)


def compare(row, precision, ours, eager):
    differences = [abs(a - b) / abs(b) if b else abs(a) for a, b in zip(ours.losses, eager.losses)]
    report.setdefault("losses", []).append({
        "row": row, "precision": precision, "ours": ours.losses, "pytorch": eager.losses, "difference": differences,
    })
    texts = [f"{name} {a:.6f} / {b:.6f} ({d:.1e})" for name, a, b, d
             in zip(("first", f"after {WARM_UP}"), ours.losses, eager.losses, differences)]
    say(f"   loss, ours / PyTorch, {precision}: " + ", ".join(texts))


def check():
    """Every operation of the card against the processor's."""
    command = [arguments.program, "bench", "check", "--device", "cuda", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(left() / 3, 1))
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"check: FAILED: {str(error)[-150:]}")
        return
    try:
        entries = json.loads(done.stdout)
        for entry in entries:
            # JSON has no other word for what is not a number.
            entry["error"] = float("inf") if entry["error"] is None else entry["error"]
    except (ValueError, KeyError, TypeError):
        say(f"check: FAILED: no list in JSON; exit {done.returncode}")
        for line in [line for line in done.stderr.splitlines() if line.strip()][-4:]:
            say("     | " + line[-160:], detail=True)
        return
    report["check"] = entries
    bad = [entry for entry in entries if not entry["ok"]]
    closest = max((e["error"] / e["bound"] for e in entries if e["bound"]), default=0)
    say(f"check: {len(entries) - len(bad)} of {len(entries)} operations within their bounds, the closest at {closest:.2f} "
        f"of its own; exit {done.returncode}")
    for entry in bad[:8]:
        say(f"     | {entry['op']} {entry['precision']}: {entry['error']:.3g}, bound {entry['bound']:.3g}", detail=True)
    if len(bad) > 8:
        say(f"     | and {len(bad) - 8} more", detail=True)


def train(experiment):
    """An experiment on the card, stopped in order if time runs out; its figures and tables are kept."""
    if left() < 20:
        say(f"not trained, for lack of time: {experiment}")
        report["not_measured"].append(f"run {experiment}")
        return
    folder, began = pathlib.Path(arguments.out) / experiment, time.monotonic()
    command = [arguments.program, "run", experiment, "--device", "cuda", "--quiet", "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=left())
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate()
    say(f"run {experiment}: exit {process.returncode} after {time.monotonic() - began:.0f} s; see {folder}/reports")
    words = out if process.returncode == 0 else err
    for line in [line for line in words.splitlines() if line.strip()][-8:]:
        say("     | " + line[-150:], detail=True)
    report.setdefault("trained", []).append({"experiment": experiment, "exit": process.returncode, "out": out})


def matrix_peak():
    """TFLOP/s of a product of random 8192^2 matrices in bf16: the median of twenty times ten."""
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out, rates = torch.empty_like(a), []
    for _ in range(25):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            torch.matmul(a, b, out=out)
        end.record()
        end.synchronize()
        rates.append(10 * 2 * n**3 / (begin.elapsed_time(end) * 1e9))
    del a, b, out
    torch.cuda.empty_cache()
    return statistics.median(rates[5:])


def compile_ahead(rows, folder):
    """Starts every compiled side at once, for what they compile is kept on disk for the next process."""
    ahead = {}
    for row in rows:
        for side in sides_of(row, folder)[1]:
            if "--compile" in side.command:
                ahead.setdefault(tuple(side.command), side)
    started = []
    for side in ahead.values():
        try:
            process = subprocess.Popen(side.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, text=True)
            process.stdin.write("run 1\n")
            process.stdin.close()
            started.append(process)
        except OSError:
            pass
    return started


def wait_for(processes):
    until = time.monotonic() + left() / 2
    for process in processes:
        try:
            process.wait(timeout=max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def save():
    if arguments.json:
        report["seconds"] = time.monotonic() - STARTED
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


def main():
    global kept
    if CUDA and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no CUDA device; try `--device cpu --batch 2`")
    report["device"] = torch.cuda.get_device_name() if CUDA else "cpu"
    report["torch"], report["steps"] = torch.__version__, arguments.steps
    with tempfile.TemporaryDirectory() as name:
        folder, rows = pathlib.Path(name), list(arguments.rows)
        for workload in dict.fromkeys("r152-r50" if row == "cohort" else row for row in rows):
            command = [sys.executable, str(HERE / "twin.py"), workload, "--batch", str(batch_of(workload))]
            subprocess.run(command + ["--write", str(folder / f"{workload}.safetensors")], check=True)
        ahead = []
        if CUDA and not arguments.no_compile and arguments.only != "ours" and free_gib() > 2 * ROOM_GIB:
            ahead = compile_ahead(rows, folder)
        if CUDA and arguments.only != "torch":
            check()
        wait_for(ahead)
        peak = ""
        if CUDA:
            report["matrix_peak_tflops"] = matrix_peak()
            peak = f", bf16 matrix peak {report['matrix_peak_tflops']:.0f} TFLOP/s"
        say(f"{report['device']}, PyTorch {torch.__version__}{peak}; {time.monotonic() - STARTED:.0f} s until here")
        say(f"{'':36}{'ms a step: min median max':>25}{'ratio':>6}{'img/s':>8}{'of peak':>8}{'MiB':>6}  first loss")
        longest = 0.0
        for i, row in enumerate(rows):
            # A row that would only be begun says nothing.
            if left() < max(20, longest / 2):
                report["not_measured"] = rows[i:]
                say("not measured, for lack of time: " + " ".join(rows[i:]))
                break
            began = time.monotonic()
            measure(row, folder)
            kept -= 8
            longest = max(longest, time.monotonic() - began)
            save()
        if CUDA and arguments.only != "torch":
            for experiment in arguments.train:
                train(experiment)
    save()
    say(f"{time.monotonic() - STARTED:.0f} s")


if __name__ == "__main__":
    main()
