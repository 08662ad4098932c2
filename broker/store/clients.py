"""Clients of redis-py to where the records are, also where Sentinels have to be asked for it."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError
from redis.retry import Retry

from broker.store.sentinels import Group, Place, Sentinels, group_of


def client(url: str, **options: Any) -> redis.Redis:
    """Give a client that tries once. Raises ValueError for a URL that makes no sense."""
    options["retry"] = Retry(NoBackoff(), 0)
    group = group_of(url)
    if group is None:
        return redis.Redis.from_url(url, **options)
    return redis.Redis.from_pool(_pool(group, options))


def at(group: Group, place: Place, **options: Any) -> redis.Redis:
    """Give a client to one server of a group, master or not."""
    one = redis.ConnectionPool.from_url(group.server, retry=Retry(NoBackoff(), 0), **options)
    one.connection_kwargs.update(host=place.host, port=place.port)
    return redis.Redis.from_pool(one)


def _pool(group: Group, options: dict[str, Any]) -> redis.ConnectionPool:
    pool = _PoolToMaster.from_url(group.server, **options)
    secured = issubclass(pool.connection_class, SSLConnection)
    pool.connection_class = _SecuredToMaster if secured else _ToMaster
    pool.connection_kwargs["sentinels"] = Sentinels(group)
    return pool


class _PoolToMaster(redis.ConnectionPool):
    """Connections to the master; those to its Sentinels are closed with them."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close every connection."""
        super().disconnect(inuse_connections)
        self.connection_kwargs["sentinels"].close()


class _ToMaster(Connection):
    """A connection to whoever is master when it is made, and to nobody else after."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._sentinels = sentinels

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.master()
        return super()._connect()  # type: ignore[no-untyped-call]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet, and see that it is a master: one that was deposed may not know it yet."""
        super().on_connect_check_health(check_health=check_health)
        self.send_command("ROLE", check_health=False)  # type: ignore[no-untyped-call]
        role: Any = self.read_response()
        if role[0] not in (b"master", "master"):
            raise Disconnected("the server that Sentinel names is no master yet")

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, unless another server is master by now. Raises ConnectionError then."""
        if self.is_connected and self._sentinels.moved_from(Place(self.host, self.port)):
            self.disconnect()  # type: ignore[no-untyped-call]
            raise Disconnected("another server is master by now")
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *words: Any, **options: Any) -> Any:
        """Read a reply; a server that says that it is a replica is left."""
        try:
            return super().read_response(*words, **options)
        except ReadOnlyError as deposed:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise Disconnected("the server is no master any more") from deposed


class _SecuredToMaster(_ToMaster, SSLConnection):
    """The same over TLS."""
