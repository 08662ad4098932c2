"""Mapping bundles in the store: one is in force, the last twenty can be gone back to."""

from __future__ import annotations

from broker.store import bundles, keys
from broker.store.bundles import Activation, Failure
from broker.store.executors import Store

FILES = {"north.yaml": "mapping: größer\n".encode(), "tables/x.csv": b"\xff\x00,\r\n"}


def put_in_force(store: Store, version: str, at: float = 0.0, by: str = "start") -> bool:
    store.run(bundles.put(version, FILES))
    return store.run(bundles.activate(version, at=at, by=by))


def test_an_empty_store_has_no_mappings_in_force(store: Store) -> None:
    assert store.run(bundles.active()) is None
    assert store.run(bundles.history()) == []
    assert store.run(bundles.get("v1")) is None
    assert store.run(bundles.failure()) is None


def test_files_are_read_back_byte_by_byte(store: Store) -> None:
    store.run(bundles.put("v1", FILES))
    assert store.run(bundles.get("v1")) == FILES


def test_what_is_only_put_is_not_in_force(store: Store) -> None:
    assert put_in_force(store, "v1")
    store.run(bundles.put("v2", FILES))
    assert store.run(bundles.active()) == Activation("v1", 0.0, "start")


def test_an_activation_says_who_wanted_it_and_where_it_came_from(store: Store) -> None:
    store.run(bundles.put("v1", FILES))
    store.run(bundles.activate("v1", at=7.5, by="watch", origin="host:/rules"))
    assert store.run(bundles.active()) == Activation("v1", 7.5, "watch", "host:/rules")


def test_what_is_not_kept_cannot_come_into_force(store: Store) -> None:
    assert put_in_force(store, "v1")
    assert not store.run(bundles.activate("v2", at=1.0, by="reload"))
    assert store.run(bundles.active()) == Activation("v1", 0.0, "start")


def test_the_newest_activation_comes_first_and_each_version_once(store: Store) -> None:
    for at, (version, by) in enumerate([("v1", "start"), ("v2", "watch"), ("v1", "rollback (me)")]):
        assert put_in_force(store, version, at, by)
    history = store.run(bundles.history())
    assert [(each.version, each.by) for each in history] == [
        ("v1", "rollback (me)"),
        ("v2", "watch"),
        ("v1", "start"),
    ]
    assert [each.version for each in bundles.versions(history)] == ["v1", "v2"]


def test_twenty_versions_are_kept_and_the_one_in_use_among_them(store: Store) -> None:
    for number in range(30):
        assert put_in_force(store, f"v{number}", number)
        assert put_in_force(store, "v0", number)
    assert store.redis.hlen(keys.BUNDLES) == bundles.VERSIONS
    kept = {each.version for each in bundles.versions(store.run(bundles.history()))}
    assert kept == {"v0", *(f"v{number}" for number in range(11, 30))}
    assert store.run(bundles.get("v0")) == FILES
    assert store.run(bundles.get("v10")) is None


def test_the_list_of_activations_has_an_end(store: Store) -> None:
    for number in range(bundles.ACTIVATIONS + 20):
        assert put_in_force(store, f"v{number % 2}", number)
    assert store.redis.llen(keys.ACTIVATIONS) == bundles.ACTIVATIONS


def test_a_failure_is_told_till_an_activation_succeeds(store: Store) -> None:
    failure = Failure(5.0, "watch", "north.yaml:3: unknown function 'persn'")
    store.run(bundles.note_failure(failure))
    assert store.run(bundles.failure()) == failure
    assert put_in_force(store, "v1")
    assert store.run(bundles.failure()) is None
    store.run(bundles.note_failure(Failure(6.0, "watch", "x" * 100_000)))
    noted = store.run(bundles.failure())
    assert noted is not None
    assert len(noted.reason) == bundles.LONGEST_REASON
    store.run(bundles.forget_failure())
    assert store.run(bundles.failure()) is None
