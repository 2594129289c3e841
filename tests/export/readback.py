"""What `distillery export` writes, read back by the programs it is for, against its CSV: every number of every job.

    pip install pandas pyarrow tensorboard mlflow-skinny
    python tests/export/readback.py target/release/distillery runs [EXPERIMENT...]

Not part of `cargo test`, which reads the same files with readers of its own.
"""

import csv
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
import pandas
import pyarrow.parquet
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.version import VERSION

binary, folder, *names = sys.argv[1:]
out = Path(tempfile.mkdtemp(prefix="export-"))


def export(form, to):
    command = [binary, "export", *(names or ["--all"]), "--folder", folder, "--format", form, "--out", str(out / to)]
    subprocess.run(command, check=True)


def same(one, other):
    return one == other or math.isnan(one) and math.isnan(other)


def number(text):
    return float(text) if text else math.nan


def tag(row):
    split, metric = row["split"], row["metric"]
    return f"{split}/{metric}" if split else f"training/{metric.removeprefix('training_')}"


for form, to in [("csv", "a.csv"), ("jsonl", "a.jsonl"), ("parquet", "a.parquet"), ("tensorboard", "tb"), ("mlflow", "ml")]:
    export(form, to)

with open(out / "a.csv", newline="") as file:
    rows = list(csv.DictReader(file))
columns = list(rows[0])
axes = [name for name in columns if name.startswith("axis.")]
print(f"CSV: {len(rows)} rows of {len({(row['experiment'], row['job']) for row in rows})} jobs, {len(axes)} axes")

# JSON lines: the same cells, of their types.
count = 0
with open(out / "a.jsonl") as file:
    for line, row in zip(file, rows, strict=True):
        read = json.loads(line)
        for name in columns:
            if name in axes:
                assert read["axes"].get(name.removeprefix("axis."), "") == row[name], (name, row, read)
            elif isinstance(read[name], (int, float)):
                assert read[name] == float(row[name]), (name, row, read)
            else:
                assert (read[name] or "") == row[name], (name, row, read)
        count += 1
print(f"JSON lines: {count} objects")

# Parquet, by pyarrow and by pandas.
table = pyarrow.parquet.read_table(out / "a.parquet")
assert table.column_names == columns and table.num_rows == len(rows)
types = {name: str(table.schema.field(name).type) for name in columns}
for name in columns:
    for read, row in zip(table[name].to_pylist(), rows, strict=True):
        text = row[name]
        assert (text == "") if read is None else read == (text if types[name] == "string" else float(text)), (name, read, row)
frame = pandas.read_parquet(out / "a.parquet")
by_csv = pandas.read_csv(out / "a.csv", low_memory=False)
assert frame["value"].equals(by_csv["value"]) and frame["epoch"].dtype == "int64" and frame["value"].dtype == "float64"
print(f"Parquet: {dict(Counter(types.values()))}, pyarrow {pyarrow.__version__}, pandas {pandas.__version__}")

# By job, tag and epoch.
expected = defaultdict(dict)
about = {}
for row in rows:
    expected[row["experiment"], row["job"]][tag(row), int(row["epoch"])] = number(row["value"])
    about[row["experiment"], row["job"]] = row
params = columns[: columns.index("epoch")]

# TensorBoard: checksums are checked by the reader, numbers are of f32.
count = 0
for file in sorted(out.glob("tb/*/*/events.out.tfevents.*")):
    accumulator = EventAccumulator(str(file.parent), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    experiment, job = file.parts[-3], file.name.removeprefix("events.out.tfevents.")
    if (experiment, job) not in expected:
        assert not accumulator.Tags()["scalars"]
        continue
    read = {(one, event.step): event.value for one in accumulator.Tags()["scalars"] for event in accumulator.Scalars(one)}
    wanted = expected[experiment, job]
    assert read.keys() == wanted.keys(), (file, read.keys() ^ wanted.keys())
    for key, value in wanted.items():
        assert same(read[key], struct.unpack("f", struct.pack("f", value))[0]), (file, key, read[key], value)
    count += len(read)
    assert "job" in accumulator.PluginTagToContent("text"), file
    content = accumulator.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    for name in params:
        text = about[experiment, job][name]
        if text:
            value = hparams[name]
            value = value.string_value if value.HasField("string_value") else value.number_value
            assert value == (text if isinstance(value, str) else float(text)), (file, name, value, text)
print(f"TensorBoard {VERSION}: {count} points of {len(list(out.glob('tb/*/*')))} runs")
assert count == sum(map(len, expected.values()))

# MLflow.
client = MlflowClient(tracking_uri=str(out / "ml"))
count = 0
for experiment in client.search_experiments():
    token = None
    while True:
        runs = client.search_runs([experiment.experiment_id], page_token=token, max_results=500)
        for run in runs:
            key = experiment.name, run.data.params["job"]
            if key not in expected:
                assert not run.data.metrics
                continue
            last = {}
            for (one, epoch), value in expected[key].items():
                last[one] = (epoch, value)
            assert run.data.metrics.keys() == last.keys()
            assert all(same(run.data.metrics[one], value) for one, (_, value) in last.items())
            read = {
                (one, metric.step): metric.value
                for one in run.data.metrics
                for metric in client.get_metric_history(run.info.run_id, one)
            }
            assert read.keys() == expected[key].keys()
            assert all(same(read[place], value) for place, value in expected[key].items())
            count += len(read)
            for name in params:
                assert run.data.params.get(name, "") == about[key][name], (name, run.data.params)
        token = runs.token
        if not token:
            break
print(f"MLflow {mlflow.__version__}: {count} values")
assert count == sum(map(len, expected.values()))
