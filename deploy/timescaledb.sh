#!/usr/bin/env bash
# A real TimescaleDB for tests and for trying things out.
#
#   deploy/timescaledb.sh up             start one (or find the one that runs), print its DSN on stdout
#   deploy/timescaledb.sh down           stop what `up` started; its data stays for the next `up`
#   deploy/timescaledb.sh test -- CMD    start a fresh one, run CMD with HEADEND_TEST_TIMESCALEDB_URL, stop it; CMD's status
#
# The first of these that can be had: the server HEADEND_TEST_TIMESCALEDB_URL names; a Docker engine; an installed
# package, or on Debian 13 as root the package installed now; as root, Debian 13 in a debootstrap folder of the cache.
# Where none can be had `test` says so and runs CMD without one (its storage tests skip); with CI=true that is a failure.
#
# Settings: HEADEND_CACHE_DIR (where the debootstrap folder lives), HEADEND_DEBIAN_MIRROR (else the one apt uses),
# HEADEND_TIMESCALEDB_IMAGE, HEADEND_TIMESCALEDB_VIA (one of docker, package, debootstrap: try this way only).
set -euo pipefail

IMAGE=${HEADEND_TIMESCALEDB_IMAGE:-timescale/timescaledb:latest-pg17}
PACKAGES=postgresql-17,postgresql-17-timescaledb
if [ "$(id -u)" = 0 ]; then
    CACHE=${HEADEND_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/headend}
else
    CACHE=${HEADEND_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/headend}
fi
TREE=$CACHE/debian-13-timescaledb
CONTAINER=headend-timescaledb

say() { printf 'timescaledb: %s\n' "$*" >&2; }

# --- where the binaries are: sets ROOT (a chroot, or empty for this system) and BIN --------------------------------

find_binaries() { # $1: root folder, empty for this system
    local postgres
    for postgres in "$1"/usr/lib/postgresql/*/bin/postgres; do
        if [ -x "$postgres" ] && [ -e "${postgres%/bin/postgres}/lib/timescaledb.so" ]; then
            ROOT=$1
            BIN=${postgres%/postgres}
            BIN=${BIN#"$1"}
            return 0
        fi
    done
    return 1
}

use_package() {
    if find_binaries ""; then return 0; fi
    [ "$(id -u)" = 0 ] && [ -r /etc/os-release ] || return 1
    (. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 13 ]) || return 1
    say "installing Debian 13's package"
    # The package would start a cluster of its own on port 5432; nobody asked for that one.
    if ! [ -e /etc/postgresql-common ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/headend.conf
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends ${PACKAGES//,/ }; } >&2 || return 1
    find_binaries ""
}

debian_mirror() { # the mirror that apt is configured with; never a host name written down here
    if [ -n "${HEADEND_DEBIAN_MIRROR:-}" ]; then
        echo "$HEADEND_DEBIAN_MIRROR"
    else
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
            awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
    fi
}

use_debootstrap() {
    if find_binaries "$TREE"; then return 0; fi
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap; } >&2 || return 1
    fi
    local mirror half
    mirror=$(debian_mirror)
    if [ -z "$mirror" ]; then
        apt-get update -qq >&2 || true
        mirror=$(debian_mirror)
    fi
    if [ -z "$mirror" ]; then
        say "apt knows no Debian mirror (HEADEND_DEBIAN_MIRROR would name one)"
        return 1
    fi
    mkdir -p "$CACHE"
    exec 8>"$TREE.lock" # two runs at once build one tree, and a half-done one is never taken for whole
    flock 8
    if ! find_binaries "$TREE"; then
        say "building Debian 13 with TimescaleDB in $TREE (about 700 MB, once)"
        rm -rf --one-file-system "$TREE".half.*
        half=$(mktemp -d "$TREE.half.XXXXXX")
        chmod 755 "$half"
        if ! debootstrap --variant=minbase --include="$PACKAGES" trixie "$half" "$mirror" >"$TREE.log" 2>&1 8>&-; then
            tail -n 5 "$TREE.log" >&2
            say "debootstrap failed, its log is $TREE.log"
            rm -rf --one-file-system "$half"
            exec 8>&-
            return 1
        fi
        rm -rf "$half/var/cache/apt/archives" "$half/var/lib/postgresql/17"
        rm -rf --one-file-system "$TREE"
        mv "$half" "$TREE"
    fi
    exec 8>&-
    find_binaries "$TREE"
}

# --- a server of our own on those binaries ----------------------------------------------------------------------------

as_server() { # run a program of the server as the user it belongs to, inside ROOT
    if [ "$(id -u)" = 0 ]; then
        local ids
        ids=$(awk -F: '$1 == "postgres" { print $3 ":" $4 }' "$ROOT/etc/passwd")
        (cd "${ROOT:-/}" && exec chroot --userspec="$ids" --groups="" "${ROOT:-/}" "$@")
    else
        "$@"
    fi
}

# A pid from a file counts only while that process still works in that data folder: pids are used again.
server_pid() { # $1: data folder as this system sees it
    local pid
    pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "$1")" ] || return 1
    echo "$pid"
}

stop_server() { # $1: data folder
    local pid i
    if ! pid=$(server_pid "$1"); then return 0; fi
    kill -INT "$pid" 2>/dev/null || return 0
    for ((i = 0; i < 300; i++)); do
        [ -d "/proc/$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "$1")" ] || return 0
        sleep 0.1
    done
    say "server $pid does not stop, killing it"
    kill -QUIT "$pid" 2>/dev/null || true
}

base_folder() { # where data folders are, as the server sees them
    if [ "$(id -u)" = 0 ]; then echo /var/lib/headend-timescaledb; else echo "$CACHE/timescaledb-data"; fi
}

make_cluster() { # $1: data folder as the server sees it
    local password
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && echo "$password" >"$ROOT$1.password")
    [ "$(id -u)" != 0 ] || chown --reference="$ROOT$(dirname "$1")" "$ROOT$1.password"
    as_server "$BIN/initdb" -D "$1" -U postgres --pwfile="$1.password" --auth=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8 --no-sync >"$ROOT$1.log" 2>&1
}

start_server() { # $1: data folder as the server sees it, $2: on|off for fsync; sets DSN
    local data=$1 fsync=$2 attempt port i pid
    for attempt in 1 2 3 4 5; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        # mmap: a chroot has no /dev/shm. setsid: Ctrl-C is for the tests first, the server is stopped after them.
        as_server setsid "$BIN/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
            -c shared_preload_libraries=timescaledb -c timescaledb.telemetry_level=off -c dynamic_shared_memory_type=mmap \
            -c fsync="$fsync" -c max_connections=200 -c timescaledb.max_background_workers=8 -c max_worker_processes=16 \
            -c max_locks_per_transaction=256 >>"$ROOT$data.log" 2>&1 </dev/null &
        for ((i = 0; i < 600; i++)); do
            if as_server "$BIN/pg_isready" -q -h 127.0.0.1 -p "$port" && pid=$(server_pid "$ROOT$data") &&
                [ "$(sed -n 4p "$ROOT$data/postmaster.pid")" = "$port" ]; then
                DSN="postgresql://postgres:$(cat "$ROOT$data.password")@127.0.0.1:$port/postgres"
                return 0
            fi
            kill -0 $! 2>/dev/null || break
            sleep 0.1
        done
        grep -q "could not create any TCP/IP sockets" "$ROOT$data.log" || break # else: the port was taken, another one
    done
    tail -n 5 "$ROOT$data.log" >&2
    say "the server did not start, its log is $ROOT$data.log"
    return 1
}

make_base() {
    local base
    base=$(base_folder)
    mkdir -p "$ROOT$base"
    if [ "$(id -u)" = 0 ]; then
        chown "$(awk -F: '$1 == "postgres" { print $3 ":" $4 }' "$ROOT/etc/passwd")" "$ROOT$base"
    fi
    chmod 700 "$ROOT$base"
}

sweep() { # what a killed `test` left behind
    local base folder owner
    base=$(base_folder)
    for folder in "$ROOT$base"/test.*.owner; do
        [ -e "$folder" ] || continue
        owner=$(cat "$folder")
        folder=${folder%.owner}
        if [ "$(cut -d' ' -f22 "/proc/${owner%:*}/stat" 2>/dev/null)" != "${owner#*:}" ]; then
            stop_server "$folder"
            remove "$folder"
        fi
    done
}

in_memory() { # $1: data folder as this system sees it: into memory, where that is allowed. Each test makes a database
    local owner
    owner=$(stat -c 'uid=%u,gid=%g' "$(dirname "$1")")
    mkdir "$1" && mount -t tmpfs -o "mode=700,size=4g,$owner" tmpfs "$1" 2>/dev/null || rmdir "$1"
}

remove() { # $1: data folder as this system sees it
    umount "$1" 2>/dev/null || true
    rm -rf --one-file-system "$1" "$1".*
}

fresh_server() { # for one test run
    make_base
    sweep
    FRESH=$(base_folder)/test.$$.$RANDOM
    echo "$$:$(cut -d' ' -f22 /proc/$$/stat)" >"$ROOT$FRESH.owner"
    in_memory "$ROOT$FRESH"
    make_cluster "$FRESH" && start_server "$FRESH" off
}

kept_server() { # for `up`
    local data
    make_base
    data=$(base_folder)/up
    if server_pid "$ROOT$data" >/dev/null; then
        DSN="postgresql://postgres:$(cat "$ROOT$data.password")@127.0.0.1:$(sed -n 4p "$ROOT$data/postmaster.pid")/postgres"
        return 0
    fi
    if ! [ -e "$ROOT$data/global/pg_control" ]; then
        rm -rf --one-file-system "$ROOT$data"
        make_cluster "$data"
    fi
    start_server "$data" on
}

# --- Docker ---------------------------------------------------------------------------------------------------------------

docker_engine() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

docker_password() { # $1: name. What `up` keeps in a volume keeps its password too: the image sets it once, on an empty one
    local kept=$CACHE/$1.password
    if [ "$1" != "$CONTAINER" ]; then kept=/dev/null; else mkdir -p "$CACHE"; fi
    if ! [ -s "$kept" ]; then (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | tee "$kept"); else cat "$kept"; fi
}

docker_server() { # $1: name, $2...: more options of docker run; sets DSN
    local name=$1 password port i
    shift
    if ! docker inspect -f '{{.State.Running}}' "$name" 2>/dev/null | grep -q true; then
        docker rm -f "$name" >/dev/null 2>&1 || true
        password=$(docker_password "$name")
        POSTGRES_PASSWORD=$password docker run -d --name "$name" -p 127.0.0.1::5432 -e POSTGRES_PASSWORD \
            -e TIMESCALEDB_TELEMETRY=off "$@" "$IMAGE" postgres -c shared_preload_libraries=timescaledb \
            -c max_connections=200 -c max_locks_per_transaction=256 >/dev/null || return 1
    fi
    password=$(docker exec "$name" printenv POSTGRES_PASSWORD)
    for ((i = 0; i < 600; i++)); do
        # Over TCP: the image's first start serves its own set-up on the socket only.
        if docker exec "$name" pg_isready -q -h 127.0.0.1 -U postgres; then
            port=$(docker port "$name" 5432/tcp | head -n 1)
            DSN="postgresql://postgres:$password@127.0.0.1:${port##*:}/postgres"
            return 0
        fi
        sleep 0.1
    done
    return 1
}

# --- the three verbs --------------------------------------------------------------------------------------------------------

wanted() { [ -z "${HEADEND_TIMESCALEDB_VIA:-}" ] || [ "$HEADEND_TIMESCALEDB_VIA" = "$1" ]; }

bring_up() { # $1: kept|fresh; sets DSN, says how
    if wanted docker && docker_engine; then
        if [ "$1" = kept ]; then
            if docker_server "$CONTAINER" -v "$CONTAINER:/var/lib/postgresql/data"; then return 0; fi
        else
            DOCKER_FRESH=$CONTAINER-test-$$
            if docker_server "$DOCKER_FRESH" --rm; then return 0; fi
        fi
        say "the Docker engine could not run $IMAGE, trying the next way"
    fi
    if wanted package && use_package && "${1}_server"; then return 0; fi
    if wanted debootstrap && use_debootstrap && "${1}_server"; then return 0; fi
    return 1
}

take_down_fresh() {
    trap - EXIT
    if [ -n "${DOCKER_FRESH:-}" ]; then docker rm -f "$DOCKER_FRESH" >/dev/null 2>&1 || true; fi
    if [ -n "${FRESH:-}" ]; then
        stop_server "$ROOT$FRESH"
        remove "$ROOT$FRESH"
    fi
}

usage() {
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

case ${1:-} in
up)
    if [ -n "${HEADEND_TEST_TIMESCALEDB_URL:-}" ]; then
        echo "$HEADEND_TEST_TIMESCALEDB_URL"
    elif bring_up kept; then
        echo "$DSN"
    else
        say "no TimescaleDB can be had here: no Docker engine, no package, and debootstrap needs root on Debian or its kin"
        exit 1
    fi
    ;;
down)
    if docker_engine; then docker rm -f "$CONTAINER" >/dev/null 2>&1 || true; fi
    for ROOT in "" "$TREE"; do
        stop_server "$ROOT$(base_folder)/up"
    done
    ;;
test)
    [ "${2:-}" = -- ] && [ $# -gt 2 ] || usage
    shift 2
    if [ -n "${HEADEND_TEST_TIMESCALEDB_URL:-}" ]; then exec "$@"; fi
    trap take_down_fresh EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if bring_up fresh; then
        export HEADEND_TEST_TIMESCALEDB_URL=$DSN
    else
        say "**********************************************************************************"
        say "** NO REAL TIMESCALEDB CAN BE HAD HERE: its storage tests are NOT run.          **"
        say "** A Docker engine, root on Debian, or HEADEND_TEST_TIMESCALEDB_URL would do.   **"
        say "**********************************************************************************"
        if [ "${CI:-}" = true ]; then exit 1; fi
    fi
    status=0
    "$@" || status=$?
    take_down_fresh
    exit "$status"
    ;;
*) usage ;;
esac
