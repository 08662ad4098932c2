#!/bin/sh
# Installs the broker from this checkout as a systemd service, or brings an installed one up to date. Run it as often as
# you like: what is there and right stays, and files of yours (broker.yaml, mappings) are never written over.
#
#   sudo sh docs/deploy/install.sh            DESTDIR=/image sh docs/deploy/install.sh   into an image, no user, no systemctl
#
# Afterwards: edit /etc/worklist-broker/broker.yaml, then   systemctl enable --now worklist-broker
set -eu
umask 022 # the broker's user has to read the program, whatever the umask of root is

source=$(cd "$(dirname "$0")/../.." && pwd)
root=${DESTDIR:-}
program=$root/opt/worklist-broker
settings=$root/etc/worklist-broker
units=$root/etc/systemd/system
documents=$root/usr/share/doc/worklist-broker
user=worklist-broker

say() { echo "install: $*"; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || { say 'run this as root, or name a DESTDIR' >&2; exit 1; }

if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
    say "user $user"
    useradd --system --home-dir /var/lib/worklist-broker --shell /usr/sbin/nologin "$user"
fi

# What is installed is named by the checksum of all that it is made of.
wanted=$(cd "$source" && find broker mappings pyproject.toml requirements.lock -type f ! -path '*/__pycache__/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
if [ "$(cat "$program/.installed" 2>/dev/null || true)" != "$wanted" ]; then
    say "program in $program"
    mkdir -p "$program"
    rm -f "$program/.installed"
    [ -x "$program/bin/python" ] || "${PYTHON:-python3}" -m venv "$program"
    "$program/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --requirement "$source/requirements.lock"
    "$program/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --force-reinstall "$source"
    "$program/bin/broker" --version
    echo "$wanted" > "$program/.installed"
    changed=yes
fi

mkdir -p "$settings/mappings" "$units" "$documents"
if [ ! -e "$settings/broker.yaml" ]; then
    say "settings in $settings/broker.yaml"
    cp "$source/docs/deploy/broker.yaml" "$settings/broker.yaml"
fi
if [ -z "$(ls -A "$settings/mappings")" ]; then
    say "mappings in $settings/mappings"
    cp -R "$source/mappings/." "$settings/mappings/"
fi
if [ -z "$root" ]; then
    chown -R root:"$user" "$settings"
    chmod -R u=rwX,g=rX,o= "$settings" # it may hold addresses and secrets
fi

for unit in "$source"/docs/deploy/systemd/*.service; do
    target=$units/$(basename "$unit")
    cmp -s "$unit" "$target" || { say "unit $target"; cp "$unit" "$target"; chmod 644 "$target"; changed=yes; }
done
cp "$source"/docs/*.md "$documents/"

if [ -z "$root" ] && [ -d /run/systemd/system ] && [ -n "${changed:-}" ]; then
    systemctl daemon-reload
    systemctl try-restart worklist-broker.service 'worklist-broker@*.service'
fi
say "done${changed:+, something changed}"
