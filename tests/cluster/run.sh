#!/usr/bin/env bash
# Slurm and PostgreSQL on loopback, the tests that need them, and all down again.
#   run.sh [--all]   --all: the slow ones, too
# Installs what is missing, if it may.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v sbatch > /dev/null || missing+=(slurmctld slurmd slurm-client)
command -v munged > /dev/null || missing+=(munge)
ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 && command -v psql > /dev/null || missing+=(postgresql)
command -v openssl > /dev/null || missing+=(openssl)
ls /usr/lib/*/faketime/libfaketime.so.1 > /dev/null 2>&1 || missing+=(libfaketime)
for pair in ss:iproute2 pgrep:procps; do command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}"); done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "${missing[@]}" > /dev/null
fi

cargo test --no-run --test it

SECONDS=0
dir=$(mktemp -d /tmp/cluster.XXXXXX)
down() {
    tests/cluster/slurm.sh down "$dir/s" || true
    tests/cluster/postgres.sh down "$dir/p" || true
    rm -rf "$dir"
}
trap down EXIT
chmod 755 "$dir"
tests/cluster/postgres.sh up "$dir/p" > /dev/null
tests/cluster/slurm.sh up "$dir/s" > /dev/null
. "$dir/p/env"
. "$dir/s/env"
echo "services are up after $SECONDS s"

export DISTILLERY_CLUSTER_REQUIRED=1
[ "${1:-}" != --all ] || export DISTILLERY_CLUSTER_ALL=1
# The quickstart's grid, cut down, on pretended GPUs: every number is that of this machine alone.
program=${CARGO_TARGET_DIR:-target}/debug/distillery
cut=(epochs=2 split.train='train[:200]' split.validation='train[7000:7100]' split.test='test[:100]'
     teachers.wide.train.epochs=1 run.teacher-at-chance=allow --device cpu --no-report --quiet)
psql -qc 'CREATE DATABASE quickstart' "$DISTILLERY_TEST_POSTGRES"
DISTILLERY_RECONCILE_MS=500 timeout 300 "$program" run quickstart "${cut[@]}" slurm.gpus=1 slurm.memory=500M --engine slurm \
    --store "${DISTILLERY_TEST_POSTGRES%/*}/quickstart" --folder "$dir/there"
"$program" run quickstart "${cut[@]}" --folder "$dir/here"
numbers() {
    "$program" query 'SELECT e.job, e.epoch, e.training_loss, v.split, v.top1 FROM epochs e LEFT JOIN evaluations v
        ON v.job = e.job AND v.epoch = e.epoch ORDER BY 1, 2, 4' --folder "$dir/$1" --json
}
numbers there > "$dir/there.json"
numbers here | cmp - "$dir/there.json"
grep -c '"job"' "$dir/there.json"
echo "quickstart through Slurm after $SECONDS s"

# One after the other: tests of the cluster stop the server under them.
timeout 600 cargo test --test it -- --show-output postgres:: store:: 2>&1 | tee "$dir/out"
timeout 1800 cargo test --test it -- --show-output --test-threads 3 cluster:: 2>&1 | tee -a "$dir/out"
if grep SKIPPED "$dir/out"; then exit 1; fi
grep -q 'test cluster::slurm_gives_what_one_machine_gives \.\.\. ok' "$dir/out"
echo "cluster: $SECONDS s"
