"""Two short executors of calls, async for the doors that serve and sync for the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from broker.store.call import Call, Script, Word
from broker.store.clients import client
from broker.store.line import ANSWER_S, CONNECT_S, Line, Unsafe, see_safe
from broker.store.sentinels import awaited, group_of

T = TypeVar("T")

_UNABLE = (
    "OOM",
    "MISCONF",
    "READONLY",
    "LOADING",
    "NOREPLICAS",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "UNKILLABLE",
    "MOVED",
    "ASK",
    "TRYAGAIN",
)
"""Error replies that say 'not now' or 'not you', as against 'your command is wrong'."""


class StoreUnavailable(Exception):
    """Redis is away, full, read-only or too slow; nothing was promised to anyone."""


# redis-py would retry ten times with five seconds each (59 s for one command). A sender or a
# scanner resends by itself, and the guard makes that harmless, so one short try is right.
_ONE_SHORT_TRY: dict[str, Any] = {
    "socket_timeout": ANSWER_S,
    "socket_connect_timeout": CONNECT_S,
    "decode_responses": False,
}


class Store:
    """Runs calls and waits for each."""

    def __init__(self, url: str) -> None:
        self.redis: Any = client(url, **_ONE_SHORT_TRY)
        self._group = group_of(url)
        self._scripts: set[Script] = set()
        self.shortfalls = 0
        """How often too few replicas had what was to be promised."""

    def run(self, call: Call[T]) -> T:
        """Run one call; raises StoreUnavailable."""
        try:
            try:
                reply = self._asked(call, call.command())
            except NoScriptError:
                reply = self._asked(call, call.command(whole_script=True))
        except RedisError as error:
            self.shortfalls += isinstance(error, Unsafe)
            raise _judged(error) from error
        return call.read(reply)

    def run_all(self, calls: Sequence[Call[T]]) -> list[T | Exception]:
        """Run calls in this order in one round trip: what each gives, or the error in its place.

        Raises StoreUnavailable when none of them was answered.
        """
        if not calls:
            return []
        promised = any(call.promised for call in calls)
        scripts = {call.script: None for call in calls if call.script} if len(calls) > 1 else {}
        try:
            # Asked for after the others, a script that the server lacks would be out of turn.
            for each in scripts.keys() - self._scripts:
                self.redis.execute_command("SCRIPT", "LOAD", each.text)
                self._scripts.add(each)
            replies = self._asked_all([call.command() for call in calls], promised)
            if unknown := [n for n, reply in enumerate(replies) if _no_script(reply)]:
                again = [calls[n].command(whole_script=True) for n in unknown]
                for n, reply in zip(unknown, self._asked_all(again, promised), strict=True):
                    replies[n] = reply
        except RedisError as error:
            self.shortfalls += isinstance(error, Unsafe) and len(calls)
            raise _judged(error) from error
        return list(map(_outcome, calls, replies))

    def _asked_all(self, commands: Sequence[tuple[Word, ...]], promised: bool) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        waiting = awaited(self._group) if promised and self._group else ()
        for command in (*commands, *waiting):
            pipe.execute_command(*command)
        replies: list[Any] = pipe.execute(raise_on_error=False)
        if self._group and waiting:
            see_safe(replies[len(commands) :], self._group)
        return replies[: len(commands)]

    def _asked(self, call: Call[Any], command: tuple[Word, ...]) -> Any:
        if self._group is None or not call.promised:
            return self.redis.execute_command(*command)
        pipe = self.redis.pipeline(transaction=False)
        pipe.execute_command(*command)
        for waiting in awaited(self._group):
            pipe.execute_command(*waiting)
        reply, *replies = pipe.execute()
        see_safe(replies, self._group)
        return reply

    def close(self) -> None:
        """Close every connection."""
        self.redis.close()


class AsyncStore:
    """Runs calls on the event loop, all over one connection: Redis does one thing at a time.

    Where replicas must have what is promised those calls go over a second one, on which others
    would wait with them.
    """

    def __init__(self, url: str) -> None:
        self._line = self._promising = Line(url)
        self.replicas_needed = 0
        self.shortfalls = 0
        """How often too few replicas had what was to be promised."""
        if group := group_of(url):
            self._promising = Line(url, replicated=True)
            self.replicas_needed = group.replicas

    @property
    def connections(self) -> int:
        """How many connections were made so far: the Redis behind a new one may be another."""
        return self._line.connections

    async def run(self, call: Call[T]) -> T:
        """Run one call; raises StoreUnavailable."""
        (outcome,) = await self.run_all((call,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run_all(self, calls: Sequence[Call[T]]) -> list[T | Exception]:
        """Run calls in this order in one round trip: what each gives, or the error in its place.

        Raises StoreUnavailable when none of them was answered.
        """
        line = self._promising if any(call.promised for call in calls) else self._line
        try:
            replies = await line.ask([call.command() for call in calls])
            if unknown := [n for n, reply in enumerate(replies) if _no_script(reply)]:
                again = [calls[n].command(whole_script=True) for n in unknown]
                for n, reply in zip(unknown, await line.ask(again), strict=True):
                    replies[n] = reply
        except RedisError as error:
            self.shortfalls += isinstance(error, Unsafe) and len(calls)
            raise _judged(error) from error
        return list(map(_outcome, calls, replies))

    async def close(self) -> None:
        """Close the connections."""
        self._line.close()
        self._promising.close()


def _no_script(reply: Any) -> bool:
    named = isinstance(reply, ResponseError) and str(reply).startswith("NOSCRIPT")
    return named or isinstance(reply, NoScriptError)


def _outcome(call: Call[T], reply: Any) -> T | Exception:
    return _judged(reply) if isinstance(reply, RedisError) else call.read(reply)


def _judged(error: RedisError) -> Exception:
    """Tell a store that cannot answer from a command of ours that is wrong (a bug)."""
    if isinstance(error, ResponseError) and not str(error).startswith(_UNABLE):
        unable = type(error) is not ResponseError or any(word in str(error) for word in _UNABLE)
        return StoreUnavailable(type(error).__name__) if unable else error
    return StoreUnavailable(f"{type(error).__name__}: {error}")
