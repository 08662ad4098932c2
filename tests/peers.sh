#!/bin/sh
# Installs the programs that tests run against, where that is allowed. Never fails: a test that misses its peer says so.
set -u

wanted=''
command -v redis-server >/dev/null 2>&1 || wanted="$wanted redis-server"
# pynetdicom installs a findscu of its own: DCMTK is there when one of its other programs is.
command -v dcmdump >/dev/null 2>&1 || wanted="$wanted dcmtk"
command -v systemd-analyze >/dev/null 2>&1 || wanted="$wanted systemd"
command -v promtool >/dev/null 2>&1 || wanted="$wanted prometheus"
[ -n "$wanted" ] || exit 0

as_root=''
[ "$(id -u)" = 0 ] || as_root='sudo -n'
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
    echo "Installing test peers:$wanted"
    # The tests start servers of their own; the package must not start one.
    { $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends $wanted; } >/dev/null && exit 0
fi
echo "Not installed, and no permission to install:$wanted. The tests that need them are left out (with CI=true: fail)." >&2
exit 0
