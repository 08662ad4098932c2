"""A guess that an order is new saves a round trip and never changes what becomes of a message."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from broker.orders.guessing import SURE_AFTER, Guesses
from broker.probe.orders import Patient, adt_a08, numbered, orm_o01
from broker.store import reads
from broker.store.call import Call, script
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from broker.worklist.changes import Action, Change
from broker.worklist.finding import Wanted
from tests.orders.test_batches import NOON, at, opened, together

NEW = [Change(Action.SCHEDULE, {}, "ORC[1]")]
OLD = [Change(Action.UPDATE, {}, "ORC[1]")]


def test_orders_are_guessed_new_after_some_that_were_and_not_after_one_that_was_not() -> None:
    guesses = Guesses()
    for _ in range(SURE_AFTER):
        assert not guesses.is_new("RIS", NEW)
        guesses.learn("RIS", NEW, nothing_known=True)
    assert guesses.is_new("RIS", NEW)
    assert not guesses.is_new("OTHER", NEW)
    assert not guesses.is_new("RIS", OLD)
    guesses.learn("RIS", OLD, nothing_known=False)  # says nothing about new ones
    assert guesses.is_new("RIS", NEW)
    guesses.learn("RIS", NEW, nothing_known=False)
    assert not guesses.is_new("RIS", NEW)


def awkward() -> list[bytes]:
    """New orders enough to be sure, then messages of which something is known after all."""
    first, second = numbered(1), numbered(2)
    renamed = replace(second, accession="ACC777777")
    person = replace(first.patient, name="RICHTIG^MIRJAM")
    buried, late = numbered(40), numbered(41)
    return [
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(1, 10)),
        orm_o01(replace(first, description="CT again"), envelope=at(11)),  # an order that is there
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(12, 17)),
        orm_o01(replace(numbered(20), patient=first.patient), envelope=at(20)),  # and a patient
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(21, 26)),
        orm_o01(replace(first, patient=Patient("P999", "X^Y")), envelope=at(26)),  # a wrong one
        adt_a08(person, envelope=at(27)),
        orm_o01(renamed, control="XO", envelope=at(28)),
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(29, 34)),
        orm_o01(second, envelope=at(34)),  # under its former number
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(35, 40)),
        orm_o01(buried, control="CA", status="CA", envelope=at(45)),
        orm_o01(buried, envelope=at(44)),  # was cancelled before it came
        *(orm_o01(numbered(n), envelope=at(n)) for n in range(46, 51)),
        orm_o01(replace(late, accession="", filler=numbered(3).filler), envelope=at(51)),
    ]


def told(store: Store, server: EmbeddedServer, *, guessing: bool) -> tuple[list[str], Any, int]:
    """The answers, all records, and how often was read before a commit."""
    store.redis.flushall()
    store.redis.config_resetstat()

    async def story() -> list[str]:
        async with opened(server.url) as intake:
            if not guessing:
                intake = replace(intake, guesses=Never())
            codes = []
            for number, message in enumerate(awkward()):
                received = (NOON + timedelta(hours=1, seconds=number)).replace(tzinfo=intake.zone)
                heard = replace(intake, clock=lambda received=received: received)
                codes += await together(heard, [message])
            return codes

    codes = asyncio.run(story())
    asked = Call(("EVALSHA", script("lookup").sha), int)
    assert asked.words  # the scripts have one counter between them
    scripts = store.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    keys = [f"NORTH|{accession}" for accession in accessions()]
    patients = tuple(f"NORTH|P{number:05d}" for number in range(60))
    known = store.run(reads.lookup(Wanted(tuple(keys), patients, (), False))).known
    return codes, (known.orders, known.patients, known.aliases), scripts


def accessions() -> list[str]:
    return ["ACC777777", *(f"ACC{number:06d}" for number in range(60))]


class Never(Guesses):
    """Guesses nothing."""

    def is_new(self, sender: str, groups: Any) -> bool:
        return False


def test_whatever_is_guessed_comes_out_as_if_it_had_been_read(
    store: Store, server: EmbeddedServer
) -> None:
    codes, records, scripts = told(store, server, guessing=True)
    read_codes, read_records, read_scripts = told(store, server, guessing=False)
    assert codes == read_codes
    assert records == read_records
    assert {"AA", "AR"} <= set(codes)
    assert scripts < read_scripts  # some were guessed right
