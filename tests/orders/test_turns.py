"""Turns: nobody has a name in hand twice, everybody gets a turn, in the order they came."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from broker.orders.turns import Turns
from broker.store.executors import StoreUnavailable

ROUNDS = 200


class Ledger:
    """Who has which names in hand, and in which order they got them."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.in_hand: set[object] = set()
        self.served: list[int] = []

    async def work(self, number: int, names: frozenset[str], loops: int = 3) -> None:
        async with self.turns.of(names):
            assert self.in_hand.isdisjoint(names)
            self.in_hand |= names
            self.served.append(number)
            try:
                for _ in range(loops):
                    await asyncio.sleep(0)
            finally:
                self.in_hand -= names


def test_two_with_a_common_name_follow_each_other_and_others_do_not_wait() -> None:
    async def story() -> None:
        ledger = Ledger()
        a, b, c = frozenset("AB"), frozenset("BC"), frozenset("D")
        await asyncio.gather(*(ledger.work(n, names) for n, names in enumerate((a, b, c))))
        assert ledger.served == [0, 2, 1]

    asyncio.run(story())


def test_who_waits_is_not_overtaken_by_a_later_one_with_the_same_name() -> None:
    async def story() -> None:
        ledger = Ledger()
        asked = [frozenset("A"), frozenset("AB"), frozenset("B"), frozenset("B")]
        await asyncio.gather(*(ledger.work(n, names) for n, names in enumerate(asked)))
        assert ledger.served == [0, 1, 2, 3]

    asyncio.run(story())


def test_when_the_store_hangs_all_who_wait_for_it_behind_one_hear_so_at_once() -> None:
    async def story() -> None:
        turns, hangs = Turns(), asyncio.get_running_loop().create_future()
        tried = []

        async def ask(names: str) -> None:
            async with turns.of(frozenset(names)):
                tried.append(names)
                await asyncio.shield(hangs)

        first = [asyncio.ensure_future(ask(names)) for names in ("A", "AB", "BC", "D", "CA")]
        await asyncio.sleep(0)
        first[2].cancel()
        hangs.set_exception(StoreUnavailable("too slow"))
        ends = await asyncio.gather(*first, return_exceptions=True)
        kinds = [type(end) for end in ends]
        assert kinds[:2] == kinds[3:] == [StoreUnavailable, StoreUnavailable]
        assert kinds[2] is asyncio.CancelledError
        assert tried == ["A", "D"]
        async with asyncio.timeout(1), turns.of(frozenset("ABCD")):
            pass  # nobody has anything in hand

    asyncio.run(story())


def test_who_gives_up_while_he_is_sent_away_takes_nothing_from_who_is_next() -> None:
    async def story() -> None:
        ledger, hangs = Ledger(), asyncio.get_running_loop().create_future()

        async def ask() -> None:
            async with ledger.turns.of(frozenset("A")):
                await hangs

        asking, waiting = (
            asyncio.ensure_future(ask()),
            asyncio.ensure_future(ledger.work(1, frozenset("A"))),
        )
        await asyncio.sleep(0)
        asking.add_done_callback(lambda _: waiting.cancel())
        hangs.set_exception(StoreUnavailable("too slow"))
        await asyncio.gather(asking, return_exceptions=True)
        later = (ledger.work(n, frozenset("A")) for n in (2, 3))
        await asyncio.gather(waiting, *later, return_exceptions=True)
        assert ledger.served == [2, 3]

    asyncio.run(story())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_whoever_gives_up_nothing_is_stuck(seed: int) -> None:
    dice = Random(seed)

    async def story() -> None:
        ledger = Ledger()
        tasks = []
        for number in range(ROUNDS):
            names = frozenset(dice.sample("ABCDEFGH", dice.randint(0, 3)))
            tasks.append(asyncio.ensure_future(ledger.work(number, names, dice.randint(0, 4))))
            if dice.random() < 0.3:
                await asyncio.sleep(0)
            if dice.random() < 0.2:
                dice.choice(tasks).cancel()
        await asyncio.wait(tasks, timeout=10)
        given_up = sum(task.cancelled() for task in tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert 0 < given_up < ROUNDS / 2
        await asyncio.wait_for(ledger.work(-1, frozenset("ABCDEFGH")), 1)

    asyncio.run(story())
