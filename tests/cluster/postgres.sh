#!/usr/bin/env bash
# A PostgreSQL server on loopback for tests, made and thrown away in seconds.
#   postgres.sh up DIR        start one, with data and log in DIR; DIR/env sets DISTILLERY_TEST_POSTGRES and PGPASSFILE,
#                             and DISTILLERY_TEST_POSTGRES_CA, the authority of its certificate
#   postgres.sh restart DIR   crash it and start it again on the same port
#   postgres.sh down DIR      stop it and remove DIR
# Needs the server's programs: apt-get install -y --no-install-recommends postgresql openssl
set -euo pipefail
verb=${1:-}
dir=${2:?usage: postgres.sh up|restart|down DIR}

programs=$(ls -d /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb 2>/dev/null | sort -V | tail -n 1) || true
[ -n "$programs" ] || { echo "there is no PostgreSQL server: apt-get install -y --no-install-recommends postgresql" >&2; exit 1; }
programs=$(dirname "$programs")

# The server refuses to run as root; the package has a user for it.
as_server() {
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else (cd / && "$@"); fi
}

# A free port is asked of the kernel; another may take it before the server does, so several are tried.
start() {
    local port try
    for try in 1 2 3 4 5; do
        port=${1:-$((20000 + (RANDOM % 12000)))}
        if as_server "$programs/pg_ctl" start -D "$dir/data" -l "$dir/log" -w -t 20 -s -o "-p $port"; then return 0; fi
        [ -z "${1:-}" ] || sleep 0.2
    done
    tail -n 5 "$dir/log" >&2
    return 1
}

# An authority of its own, and a certificate by it for loopback, for some days. No TLS where there is no `openssl`.
certify() {
    command -v openssl > /dev/null || { echo "no TLS: there is no openssl" >&2; return 1; }
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
    (
        umask 022 && cd "$dir" &&
            openssl req -x509 "${key[@]}" -days 3 -keyout ca.key -out ca.crt -subj /CN=tests &&
            openssl req "${key[@]}" -keyout server.key -out server.csr -subj /CN=server &&
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -days 3 -out server.crt \
                -extfile <(echo 'subjectAltName = IP:127.0.0.1') &&
            chmod 600 server.key &&
            { [ "$(id -u)" != 0 ] || chown postgres server.key; }
    ) 2> "$dir/openssl.log"
}

case $verb in
up)
    mkdir -p "$dir" && dir=$(cd "$dir" && pwd) && chmod 711 "$dir"
    word=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
    if [ ! -e "$dir/data/PG_VERSION" ]; then
        [ "$(id -u)" != 0 ] || chown postgres "$dir"
        (umask 077; printf '%s\n' "$word" > "$dir/word")
        [ "$(id -u)" != 0 ] || chown postgres "$dir/word"
        as_server "$programs/initdb" -D "$dir/data" -U tester -A scram-sha-256 --pwfile="$dir/word" -E UTF8 --no-locale -N > "$dir/initdb.log"
        # Nothing here outlives the tests: no syncs.
        printf '%s\n' "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" "fsync = off" "full_page_writes = off" \
            "synchronous_commit = off" "max_connections = 200" | as_server tee -a "$dir/data/postgresql.conf" > /dev/null
        if certify; then
            printf '%s\n' "ssl = on" "ssl_cert_file = '$dir/server.crt'" "ssl_key_file = '$dir/server.key'" \
                | as_server tee -a "$dir/data/postgresql.conf" > /dev/null
        fi
        start
    else
        as_server "$programs/pg_ctl" status -D "$dir/data" > /dev/null || start
    fi
    port=$(sed -n 4p "$dir/data/postmaster.pid")
    (umask 077; printf '127.0.0.1:%s:*:tester:%s\n' "$port" "$(cat "$dir/word")" > "$dir/pgpass")
    {
        printf 'export DISTILLERY_TEST_POSTGRES=postgres://tester@127.0.0.1:%s/postgres\n' "$port"
        printf 'export DISTILLERY_TEST_POSTGRES_RESTART=%q\n' "$(cd "$(dirname "$0")" && pwd)/$(basename "$0") restart $dir"
        printf 'export PGPASSFILE=%q\n' "$dir/pgpass"
        [ ! -e "$dir/ca.crt" ] || printf 'export DISTILLERY_TEST_POSTGRES_CA=%q\n' "$dir/ca.crt"
    } > "$dir/env"
    cat "$dir/env"
    ;;
restart)
    port=$(sed -n 4p "$dir/data/postmaster.pid")
    as_server "$programs/pg_ctl" stop -D "$dir/data" -m immediate -s
    sleep "${DOWN_SECONDS:-0.5}"
    start "$port"
    ;;
down)
    [ -d "$dir" ] || exit 0
    if [ -s "$dir/data/postmaster.pid" ]; then as_server "$programs/pg_ctl" stop -D "$dir/data" -m immediate -s || true; fi
    rm -rf "$dir"
    ;;
*)
    echo "usage: postgres.sh up|restart|down DIR" >&2
    exit 2
    ;;
esac
