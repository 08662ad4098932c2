#!/bin/sh
# redis-group.sh server|sentinel NAME MASTER: one of a group of Redis servers with Sentinel, NAME by its own name in the network and
# MASTER the first master. The settings are written once; from then on they are Redis's own, which a failover rewrites.
set -eu
kind=$1 name=$2 master=$3
data=${DATA:-/data} master_port=${MASTER_PORT:-6379}
umask 077
if [ "$kind" = sentinel ]; then
    file=$data/sentinel.conf
    [ -s "$file" ] || cat >"$file" <<END
port ${PORT:-26379}
dir $data
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $name
sentinel monitor mymaster $master $master_port 2
sentinel down-after-milliseconds mymaster 2000
sentinel failover-timeout mymaster 10000
END
    exec redis-server "$file" --sentinel
fi
file=$data/redis.conf
if ! [ -s "$file" ]; then
    cat >"$file" <<END
port ${PORT:-6379}
dir $data
protected-mode no
appendonly yes
appendfsync always
maxmemory 1gb
maxmemory-policy noeviction
replica-announce-ip $name
END
    [ "$name:${PORT:-6379}" = "$master:$master_port" ] || echo "replicaof $master $master_port" >>"$file"
fi
exec redis-server "$file"
