#!/usr/bin/env bash
# A mosquitto for tests: deploy/mosquitto.sh -- CMD sees to it that the program is there and runs CMD.
#
# Installed it stays as it is; on Debian and its kin as root the package is installed now, and the service that the package
# would start is left off. Where it cannot be had this says so and runs CMD without it (the tests that need it skip); with
# CI=true that is a failure.
set -euo pipefail

say() { printf 'mosquitto: %s\n' "$*" >&2; }

there() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto >/dev/null; }

install_package() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "installing the package"
    export DEBIAN_FRONTEND=noninteractive
    local policy=/usr/sbin/policy-rc.d made=
    if ! [ -e "$policy" ]; then # nobody asked for a broker on port 1883
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=1
    fi
    local status=0
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto; } >&2 || status=1
    [ -z "$made" ] || rm -f "$policy"
    return "$status"
}

[ "${1:-}" = -- ] && [ $# -gt 1 ] || {
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
shift
if ! there && ! { install_package && there; }; then
    say "NO MOSQUITTO CAN BE HAD HERE: the tests of MQTT against a real broker are NOT run."
    if [ "${CI:-}" = true ]; then exit 1; fi
fi
exec "$@"
