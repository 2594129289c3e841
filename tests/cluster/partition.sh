#!/usr/bin/env bash
# A node is cut off the network while it trains, and comes back: needs root, for hosts with networks of their own.
#   partition.sh PROGRAM     of distillery; ends with `ok`, or says what was wrong
# What was seen: partition.md
set -euo pipefail
program=$(realpath "${1:?usage: partition.sh PROGRAM}")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d /tmp/cut.XXXXXX)
chmod 755 "$dir"
space=cut$$
controller=
down() {
    [ -z "$controller" ] || kill -KILL "$controller" 2> /dev/null || true
    # Before the namespaces go.
    "$here/postgres.sh" down "$dir/p" || true
    "$here/slurm.sh" down "$dir/s" || true
    rm -rf "$dir"
}
trap down EXIT
at() { nsenter --net="/run/netns/$space-ctl" "$@"; }
fail() {
    echo "WRONG: $*" >&2
    tail -n 30 "$dir/log" "$dir"/runs/cluster/*/*.log >&2 || true
    exit 1
}

NETNS=$space "$here/slurm.sh" up "$dir/s" > /dev/null
. "$dir/s/env"
at "$here/postgres.sh" up "$dir/p" > /dev/null
printf "listen_addresses = '*'\n" >> "$dir/p/data/postgresql.conf"
printf 'host all all 10.77.9.0/24 scram-sha-256\n' >> "$dir/p/data/pg_hba.conf"
DOWN_SECONDS=0 at "$here/postgres.sh" restart "$dir/p"
port=$(sed -n 4p "$dir/p/data/postmaster.pid")
(umask 077 && sed 's/^[^:]*:/10.77.9.1:/' "$dir/p/pgpass" > "$dir/pgpass")
export PGPASSFILE=$dir/pgpass
url=postgres://tester@10.77.9.1:$port

# Long students only, a node for each.
{ sed 's/^epochs = \[6, 240\]$/epochs = [6000]/' "$here/sweep.toml" && cat; } > "$dir/sweep.toml" <<'END'

[slurm]
gpus = 0
memory = "300M"
time = "10"
extra = ["--exclusive"]
END
cd "$dir"
run() { "$program" run sweep.toml --device cpu --no-report run.teacher-at-chance=allow run.minitrain=50 run.checkpoints.every=0s "$@"; }
numbers() {
    for sql in 'SELECT job, epoch, step, images, training_loss, learning_rate, gradient_norm FROM epochs ORDER BY job, epoch' \
        'SELECT * FROM evaluations ORDER BY job, epoch, split' 'SELECT id, state FROM jobs ORDER BY id'; do
        "$@" query "$sql" --json
    done
}
run --folder alone --quiet 2> "$dir/log"
numbers env DISTILLERY_FOLDER=alone "$program" > alone.json

export DISTILLERY_LEASE_MS=5000 DISTILLERY_LOOK_MS=200 DISTILLERY_BEAT_SECONDS=0.5 DISTILLERY_RECONCILE_MS=500
at psql "$url/postgres" -qc 'CREATE DATABASE cut'
export DISTILLERY_STORE=$url/cut DISTILLERY_FOLDER=$dir/runs
at "$program" run sweep.toml --device cpu --no-report run.teacher-at-chance=allow run.minitrain=50 run.checkpoints.every=0s \
    run.retries.lost.count=100 --engine slurm 2> "$dir/log" &
controller=$!

# Tasks on n2: processes in its network.
there() {
    local pid
    for pid in $(pgrep -f "worker .*$dir/runs" || true); do
        [ "$(readlink "/proc/$pid/ns/net" 2> /dev/null)" = "$(nsenter --net="/run/netns/$space-n2" readlink /proc/self/ns/net)" ] &&
            grep -qv '^State:.Z' "/proc/$pid/status" 2> /dev/null && echo "$pid"
    done
    return 0
}
middle() { at psql "$url/cut" -qAtXc "SELECT count(*) FROM (SELECT job FROM epochs e JOIN jobs j ON j.id = e.job WHERE j.epochs = 6000 GROUP BY job HAVING max(epoch) BETWEEN 3 AND 4000) s" 2> /dev/null || echo 0; }
SECONDS=0
until [ "$(middle)" = 2 ] && [ -n "$(there)" ]; do
    [ "$SECONDS" -lt 180 ] || fail 'nobody trains on n2'
    sleep 0.2
done

"$here/slurm.sh" cut "$dir/s" n2
SECONDS=0
echo "cut off: $(there | wc -l) processes on n2"
until [ -z "$(there)" ]; do
    [ "$SECONDS" -lt 30 ] || fail 'the one that was cut off goes on'
    sleep 0.2
done
echo "the one that was cut off had left after $SECONDS s, without a word to anybody"
while [ "$SECONDS" -lt 40 ]; do sleep 0.5; done
at squeue -h -r -t all -o '%F|%K|%T|%r|%N' | sed 's/^/before the network is back: /'
"$here/slurm.sh" join "$dir/s" n2
wait "$controller" || fail "the controller ended with $?"
controller=
numbers at "$program" > slurm.json
cmp alone.json slurm.json || fail 'the numbers differ'
for file in alone/jobs/*/student.safetensors; do
    cmp "$file" "runs/${file#alone/}" || fail "weights of $file differ"
done
at psql "$url/cut" -AtXc 'SELECT job, attempt, split_part(owner, $$@$$, 1), outcome, failure FROM attempts ORDER BY job, attempt' | sed 's/^/attempt: /'
echo "ok: rows and weights are those of one machine"
