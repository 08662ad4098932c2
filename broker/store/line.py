"""One connection to Redis on which commands queue: written at once, answered in order.

redis.asyncio takes a connection, a task and a timer for each command, and packs words one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TooSlow

from broker.store.call import Word
from broker.store.sentinels import LOOK_S, Group, Place, Sentinels, awaited, group_of

Commands = Sequence[tuple[Word, ...]]

CONNECT_S: Final = 1.5
ANSWER_S: Final = 2.5
"""From the writing of commands to the last of their replies."""
_NOTHING_YET: Final = object()
_packed: Callable[..., bytes] = hiredis.pack_command  # its stub allows one word only


class Unsafe(RedisError):
    """What was written is on the master alone: it must not be promised."""

    def __init__(self) -> None:
        super().__init__("no replica has it, so it is not promised; see `broker status`")


def see_safe(replies: Sequence[Any], group: Group) -> None:
    """Raise Unsafe unless the replies to `awaited` say that enough replicas have everything."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    if replies[-1] < group.replicas:
        raise Unsafe


class Line:
    """Connects when something is asked and it is not connected; tries once.

    With Sentinels it connects to the master and leaves it when another one is. A `replicated` one
    gives replies when replicas have all that was written before.
    """

    def __init__(self, url: str, *, replicated: bool = False) -> None:
        """Open nothing yet. Raises ValueError for a URL that makes no sense."""
        group = group_of(url)
        self._sentinels = Sentinels(group) if group else None
        self._awaited = group if replicated else None
        self._following: asyncio.Future[None] | None = None
        # It reads the URL, and the settings of TLS, as redis-py does.
        pool: Any = ConnectionPool.from_url(group.server if group else url)
        self._to = pool.make_connection()
        self._make = pool.make_connection
        self._wire: _Wire | None = None
        self._connecting: asyncio.Future[_Wire] | None = None
        self.connections = 0

    async def ask(self, commands: Commands) -> list[Any]:
        """Give the reply to each command, an error reply as ResponseError in its place.

        Raises RedisError when the connection fails or the replies take too long.
        """
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._connected()
        answered, copied = wire.ask(commands), wire.copied
        replies = await answered
        if any(map(_is_read_only, replies)):
            wire.close()  # a master that was deposed: whoever asks next finds the new one
        if copied is not None and self._awaited is not None:
            await asyncio.wait([copied])  # it is of all that was written together
            see_safe(copied.result(), self._awaited)
        return replies

    def close(self) -> None:
        """Close the connection, also one that is being made; what waits for a reply fails."""
        for each in (self._connecting, self._following):
            if each is not None:
                each.cancel()
        for wire in (self._wire, _just_made(self._connecting)):
            if wire is not None:
                wire.close()

    async def _connected(self) -> _Wire:
        """Connect, or wait with others for the connection that is being made."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._made)
        connecting = self._connecting
        await asyncio.wait([connecting])  # who is cancelled leaves it to the others
        if connecting.cancelled():
            raise Disconnected("closed by us")
        return connecting.result()

    def _made(self, connecting: asyncio.Future[_Wire]) -> None:
        self._connecting = None
        if not connecting.cancelled() and not connecting.exception():
            self._wire = connecting.result()
            self.connections += 1
            if self._sentinels is not None:
                if self._following is not None:
                    self._following.cancel()
                self._following = asyncio.ensure_future(self._follow(self._wire, self._sentinels))

    async def _follow(self, wire: _Wire, sentinels: Sentinels) -> None:
        """Leave a server as soon as Sentinels name another one: it may answer, and be deposed."""
        while wire.is_open:
            await asyncio.sleep(LOOK_S)
            if await asyncio.to_thread(sentinels.moved_from, wire.place):
                wire.close()

    async def _connect(self) -> _Wire:
        place = None
        if self._sentinels is not None:
            place = await asyncio.to_thread(self._sentinels.master)
        try:
            async with asyncio.timeout(CONNECT_S):
                wire = await self._open(place)
                replies = await self._greeted(wire)
        except TimeoutError:
            raise TooSlow("connecting takes too long") from None
        except OSError as error:
            raise Disconnected(f"{error}") from error
        if refused := [reply for reply in replies if isinstance(reply, ResponseError)]:
            wire.close()
            raise Disconnected(f"{refused[0]}")
        if place is not None and replies[-1][0] != b"master":
            wire.close()
            raise Disconnected("the server that Sentinel names is no master yet")
        wire.awaited = self._awaited
        return wire

    async def _greeted(self, wire: _Wire) -> list[Any]:
        try:
            return await wire.ask(self._greeting())
        except BaseException:
            wire.close()  # nobody else has it
            raise

    async def _open(self, place: Place | None) -> _Wire:
        loop = asyncio.get_running_loop()
        to = self._to = self._make()  # it keeps the context that it made: files may be new ones
        if isinstance(to, UnixDomainSocketConnection):
            _, wire = await loop.create_unix_connection(_Wire, to.path)
            return wire
        tls = to.ssl_context.get() if isinstance(to, SSLConnection) else None
        host, port = place or (to.host, to.port)
        _, wire = await loop.create_connection(_Wire, host, port, ssl=tls)
        if place is not None:
            wire.place = place
        return wire

    def _greeting(self) -> Commands:
        to = self._to
        commands: list[tuple[Word, ...]] = []
        if to.password:
            commands.append(("AUTH", *filter(None, (to.username, to.password))))
        commands.append(("SELECT", to.db or 0))
        if self._sentinels is not None:
            commands.append(("ROLE",))
        return commands


def _just_made(connecting: asyncio.Future[_Wire] | None) -> _Wire | None:
    """The connection of which nobody has heard yet, if there is one: cancelled it is no more."""
    if connecting is None or not connecting.done() or connecting.cancelled():
        return None
    return None if connecting.exception() else connecting.result()


def _is_read_only(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and "READONLY" in str(reply)


@dataclass(slots=True)
class _Asked:
    """Commands that were written together, and the replies that have come."""

    wanted: int
    until: float
    answered: asyncio.Future[list[Any]]
    replies: list[Any] = field(default_factory=list)


class _Wire(asyncio.Protocol):
    """The socket: bytes out, replies to whoever asked, in that order.

    Where what it writes is `awaited` every write ends in WAIT, whose replies are those of `copied`.
    """

    place = Place("", 0)

    def __init__(self) -> None:
        self.awaited: Group | None = None
        self.copied: asyncio.Future[list[Any]] | None = None
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=_NOTHING_YET)
        self._asked: deque[_Asked] = deque()
        self._unwritten: list[bytes] = []
        self._transport: Any = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, commands: Commands) -> asyncio.Future[list[Any]]:
        answered: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self.is_open:
            answered.set_exception(Disconnected("the connection is lost"))
            return answered
        asked = _Asked(len(commands), self._loop.time() + ANSWER_S, answered)
        self._asked.append(asked)
        if not self._unwritten:
            self._loop.call_soon(self._write)
            if self.awaited is not None:
                self.copied = self._loop.create_future()
                self.copied.add_done_callback(_heard)
        self._unwritten += map(_packed, commands)
        if self._alarm is None:
            self._alarm = self._loop.call_at(asked.until, self._look)
        return answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _write(self) -> None:
        """Write what was asked in one turn of the loop, of many messages, as one piece."""
        copied, self.copied = self.copied, None
        if self.is_open:
            if copied is not None and self.awaited is not None:
                waiting = awaited(self.awaited)
                self._asked.append(_Asked(len(waiting), self._loop.time() + ANSWER_S, copied))
                self._unwritten += map(_packed, waiting)
            self._transport.write(b"".join(self._unwritten))
        elif copied is not None:
            copied.set_exception(Disconnected("the connection is lost"))
        self._unwritten.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING_YET:
                self._take(reply)
        except (hiredis.HiredisError, IndexError) as error:
            self._end(Disconnected(f"not what Redis says: {type(error).__name__}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Disconnected(f"{exc or 'closed by the server'}"))

    def _take(self, reply: Any) -> None:
        asked = self._asked[0]
        asked.replies.append(reply)
        if len(asked.replies) == asked.wanted:
            self._asked.popleft()
            if not asked.answered.done():  # else nobody waits for it any more
                asked.answered.set_result(asked.replies)

    def _look(self) -> None:
        """Break off when the oldest replies are overdue: later ones would be taken for others'."""
        self._alarm = None
        if not self._asked:
            return
        if self._asked[0].until <= self._loop.time():
            self._end(TooSlow("Redis does not answer in time"))
        else:
            self._alarm = self._loop.call_at(self._asked[0].until, self._look)

    def _end(self, error: RedisError) -> None:
        if self._transport is not None:
            self._transport.abort()
        waiting, self._asked = self._asked, deque()
        for asked in waiting:
            if not asked.answered.done():
                asked.answered.set_exception(error)


def _heard(copied: asyncio.Future[list[Any]]) -> None:
    """Whoever waited may have given up before; a failure is then nobody's."""
    if not copied.cancelled():
        copied.exception()
