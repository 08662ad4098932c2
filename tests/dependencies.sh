#!/bin/sh
# dependencies.sh PIP-AUDIT LOCK [OPTIONS]: ask a database of known vulnerabilities about every locked
# dependency. What could not be asked about is a failure as well: silence is no clean bill of health.
audit=$1 lock=$2
shift 2
said=$("$audit" --requirement "$lock" --require-hashes --disable-pip --strict --progress-spinner off "$@" 2>&1)
code=$?
printf '%s\n' "$said"
[ $code -eq 0 ] && exit 0
if printf '%s\n' "$said" | grep -Eq '^Found [0-9]+ known vulnerabilit'; then
	echo "$lock: a dependency is known to be vulnerable: raise it in pyproject.toml, then make lock"
else
	echo "$lock: NOT audited: the database cannot be asked from here, or does not know a dependency."
	echo "Run make audit where pypi.org can be reached, or ask another one: make audit ARGS='-s osv'"
fi >&2
exit 1
