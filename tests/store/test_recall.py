"""Looking back into the archive: IDs that people can type, pages, and what is meant by a filter."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from broker.store import keys, recall
from broker.store.archive import Archived
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from broker.store.recall import Entry, Selection
from tests.store.writing import AT

ORDER = Archived(
    source="RIS|NORTH",
    control_id="C1",
    message_type="ORM^O01",
    outcome="applied",
    cause="",
    received=AT.timestamp(),
    orders=("NORTH|A/1",),
    mapping="ihe-orders@3f2a91c07d55",
    raw="MSH|^~\\&|RIS|NORTH\rPID|1||4711||MÜSTER^ANNA\rOBR|1|P7^X|F7".encode("latin-1"),
    answers=(b"MSH|^~\\&|BROKER\rMSA|CA|C1\r", b"MSH|^~\\&|BROKER\rMSA|AA|C1\r"),
)


def add(store: Store, *messages: Archived) -> None:
    for message in messages:
        store.run(commit(Commit(at=AT, archived=message)))


def meant(store: Store, **asked: object) -> list[str]:
    return [
        entry.message.control_id
        for entry in recall.newest_first(store, Selection(**asked))  # type: ignore[arg-type]
        if entry.message
    ]


@pytest.mark.parametrize("stream_id", ["1764108000123-0", "1764108000123-17", "1-0", "0-0"])
def test_an_id_is_short_and_leads_back(stream_id: str) -> None:
    typed = Entry(stream_id, None).id
    assert len(typed) <= 12
    assert recall.stream_id(typed) == recall.stream_id(typed.upper()) == stream_id
    assert recall.stream_id(stream_id) == stream_id


@pytest.mark.parametrize("typed", ["", "NA26-0031177", "l0l", "1-", "-", "x.y", "1" * 40])
def test_what_is_no_id_is_seen(typed: str) -> None:
    assert recall.stream_id(typed) is None


def test_ids_sort_as_the_messages_came() -> None:
    ids = [Entry(f"{1764108000000 + n}-0", None).id for n in range(0, 5000, 37)]
    assert ids == sorted(ids)


def test_pages_go_back_to_the_oldest_and_on_from_any_message(store: Store) -> None:
    add(store, *(replace(ORDER, control_id=f"{n}") for n in range(7)))
    newest = store.run(recall.before("+", limit=3))
    older = store.run(recall.before(newest[-1].stream_id, limit=10))
    shown = [entry.message.control_id for entry in (*newest, *older) if entry.message]
    assert shown == list("6543210")
    later = store.run(recall.after(older[-1].stream_id, limit=2))
    assert [entry.message and entry.message.control_id for entry in later] == ["1", "2"]
    assert store.run(recall.newest_id()) == newest[0].stream_id
    assert store.run(recall.oldest_ms()) == older[-1].stored_ms
    assert store.run(recall.after(newest[0].stream_id)) == []


def test_an_empty_archive_has_no_newest_and_no_oldest(store: Store) -> None:
    assert store.run(recall.newest_id()) == "0-0"
    assert store.run(recall.oldest_ms()) is None
    assert meant(store) == []


def test_messages_are_found_by_id_in_the_order_asked_for(store: Store) -> None:
    add(store, replace(ORDER, control_id="1"), replace(ORDER, control_id="2"))
    second, first = store.run(recall.before("+"))
    asked = [first.stream_id, "1-0", second.stream_id]
    assert store.run(recall.named(asked)) == [first, second]


def test_more_messages_than_a_page_are_all_found(store: Store) -> None:
    add(store, *(replace(ORDER, control_id=f"{n}") for n in range(recall.PAGE + 5)))
    assert len(meant(store)) == recall.PAGE + 5


@pytest.mark.parametrize(
    "asked",
    [
        {"grep": "müster^anna"},
        {"grep": "MÜSTER"},
        {"grep": "muster"},
        {"ack": "aa"},
        {"ack": "CA"},
        {"accession": "A/1"},
        {"accession": "4711"},
        {"accession": "P7"},
        {"sender": "ris|north"},
        {"sender": "NORTH"},
        {"message_type": "orm"},
        {"message_type": "ORM^O01"},
        {"outcome": "applied"},
        {"control_id": "C1"},
        {"since_ms": 1, "until_ms": int(time.time() * 1000) + 10**9},
    ],
)
def test_a_filter_means_a_message_by_any_of_its_facts(store: Store, asked: dict[str, str]) -> None:
    add(store, ORDER)
    expected = [] if asked == {"grep": "muster"} else ["C1"]  # Ü is no u: nobody said which Ü
    assert meant(store, **asked) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"grep": "SCHMIDT"},
        {"ack": "AE"},
        {"accession": "A"},
        {"accession": "471"},
        {"sender": "RI"},
        {"message_type": "O01^ORM"},
        {"outcome": "refused"},
        {"control_id": "c1"},
        {"until_ms": 1},
        {"since_ms": int(time.time() * 1000) + 10**9},
    ],
)
def test_a_filter_leaves_out_what_is_only_near(store: Store, asked: dict[str, str]) -> None:
    add(store, ORDER)
    assert meant(store, **asked) == []


def test_an_entry_says_what_was_answered_and_which_orders_it_changed(store: Store) -> None:
    add(store, ORDER, replace(ORDER, orders=(), answers=()))
    bare, entry = store.run(recall.before("+"))
    assert (entry.acks, entry.accessions) == (("CA", "AA"), ("A/1",))
    assert (bare.acks, bare.accessions) == ((), ())
    assert entry.message == ORDER
    assert entry.took_ms > 0


def test_r12_an_entry_that_cannot_be_read_hides_no_other(store: Store) -> None:
    add(store, ORDER)
    store.redis.xadd(keys.ARCHIVE, {"facts": b"not zlib", "raw": b"", "size": 1})
    store.redis.xadd(keys.ARCHIVE, {"else": "a newer form"})
    add(store, ORDER)
    found = store.run(recall.before("+"))
    assert [entry.message is None for entry in found] == [False, True, True, False]
    assert meant(store, outcome="applied") == ["C1", "C1"]
