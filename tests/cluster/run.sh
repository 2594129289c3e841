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
# One after the other: tests of the cluster stop the server under them.
timeout 600 cargo test --test it -- --show-output postgres:: store:: 2>&1 | tee "$dir/out"
timeout 1800 cargo test --test it -- --show-output --test-threads 3 cluster:: 2>&1 | tee -a "$dir/out"
! grep SKIPPED "$dir/out"
grep -q 'test cluster::slurm_gives_what_one_machine_gives \.\.\. ok' "$dir/out"
echo "cluster: $SECONDS s"
