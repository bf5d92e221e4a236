#!/usr/bin/env bash
# Make sure that prometheus and redis-server are installed; on Debian or Ubuntu as root, install them.
# With the word `tests` also libfaketime, where it can be had: the queue is tested with wrong clocks too.
# Daemons that the packages start by themselves are left alone: ours run on free loopback ports.
set -euo pipefail
missing=()
command -v prometheus >/dev/null || missing+=(prometheus)
command -v redis-server >/dev/null || missing+=(redis-server)
if [ "${1:-}" = tests ] && ! compgen -G '/usr/lib*/*/faketime/libfaketimeMT.so.1' >/dev/null &&
    ! compgen -G '/usr/l*/lib*/faketime/libfaketimeMT.so.1' >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        missing+=(faketime)
    else
        echo "trimtab: no libfaketime (Debian, Ubuntu: apt-get install faketime): the tests with wrong clocks will be skipped" >&2
    fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "trimtab: install ${missing[*]} and run this again (Debian, Ubuntu: apt-get install ${missing[*]})" >&2
    exit 1
fi
echo "trimtab: installing ${missing[*]} from the distribution's packages"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
