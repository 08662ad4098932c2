"""A folder comes into force when it is right and new; a rollback stays till the folder changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from broker.mapping.text.nodes import Complaints
from broker.rollout.deploying import NoSuchVersion, deploy, roll_back
from broker.settings import Address, Ris, Settings
from broker.store import bundles
from broker.store.executors import Store


def edit(settings: Settings, old: str, new: str) -> None:
    path = settings.mappings / "out.yaml"
    path.write_text(path.read_text().replace(old, new))


def put(store: Store, settings: Settings, at: float = 1.0, *, always: bool = True) -> str:
    return deploy(store, settings, by="test", at=at, always=always).active.version


def active(store: Store) -> str:
    found = store.run(bundles.active())
    return found.version if found else ""


def test_a_folder_comes_into_force_once(store: Store, settings: Settings) -> None:
    first = deploy(store, settings, by="start", at=1.0)
    assert (first.changed, first.mappings) == (True, 1)
    again = deploy(store, settings, by="reload", at=2.0)
    assert not again.changed
    assert again.active == first.active == store.run(bundles.active())


def test_a_mistake_keeps_the_former_mappings_and_is_noted(store: Store, settings: Settings) -> None:
    before = put(store, settings)
    edit(settings, "ORC-5", "ORC-99")
    with pytest.raises(Complaints, match="ORC-99 does not exist"):
        put(store, settings, 2.0)
    failure = store.run(bundles.failure())
    assert failure is not None
    assert (failure.at, failure.by) == (2.0, "test")
    assert "out.yaml:8:3: ORC-99" in failure.reason
    assert active(store) == before
    edit(settings, "ORC-99", "ORC-5")
    assert put(store, settings, 3.0) == before
    assert store.run(bundles.failure()) is None


def test_a_failing_example_keeps_the_former_mappings(store: Store, settings: Settings) -> None:
    put(store, settings)
    example = "examples:\n  - event: {Modality: CT}\n    expect: {ORC-1: XX}\n"
    edit(settings, "Status\n", f"Status\n{example}")
    with pytest.raises(Complaints, match="ORC-1 is '"):
        put(store, settings)


def test_a_mapping_that_a_ris_needs_must_be_there(store: Store, settings: Settings) -> None:
    ris = Ris(name="north", to=Address("127.0.0.1", 9), mapping="out")
    needing = settings.model_copy(update={"ris": (ris,)})
    former = put(store, needing)
    edit(settings, "mapping: out", "mapping: oud")
    with pytest.raises(Complaints, match="ris 'north': there is no mapping 'out'"):
        put(store, needing)
    assert put(store, settings) != former
    assert roll_back(store, needing, "", by="me", at=3.0).active.version == former
    with pytest.raises(Complaints, match="ris 'north'"):
        roll_back(store, needing, "", by="me", at=4.0)


def test_a_rollback_stays_till_the_folder_changes(store: Store, settings: Settings) -> None:
    first = put(store, settings)
    edit(settings, "SC", "SN")
    second = put(store, settings)
    assert roll_back(store, settings, "", by="me", at=3.0).changed
    assert active(store) == first
    assert put(store, settings, always=False) == first == active(store)
    edit(settings, "SN", "NA")
    third = put(store, settings, always=False)
    assert third == active(store)
    assert len({first, second, third}) == 3


def test_a_folder_that_follows_a_rollback_can_go_on_again(store: Store, settings: Settings) -> None:
    first = put(store, settings)
    edit(settings, "SC", "SN")
    second = put(store, settings)
    roll_back(store, settings, "", by="me", at=3.0)
    edit(settings, "SN", "SC")
    assert put(store, settings, always=False) == first
    edit(settings, "SC", "SN")
    assert put(store, settings, always=False) == second == active(store)


def test_a_folder_put_back_while_nothing_ran_comes_in(store: Store, settings: Settings) -> None:
    first = put(store, settings)
    edit(settings, "SC", "SN")
    put(store, settings)
    edit(settings, "SN", "SC")
    assert put(store, settings, always=False) == first == active(store)


def test_a_host_with_a_former_folder_does_not_put_it_back(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    put(store, settings)
    other = settings.model_copy(update={"mappings": tmp_path / "other"})
    shutil.copytree(settings.mappings, other.mappings)
    edit(settings, "SC", "SN")
    second = put(store, settings)
    assert put(store, other, always=False) == second
    edit(other, "SC", "NA")
    assert put(store, other, always=False) == active(store) != second
    assert put(store, settings, always=False) == active(store) != second


def test_a_rollback_is_undone_by_an_explicit_reload(store: Store, settings: Settings) -> None:
    put(store, settings)
    edit(settings, "SC", "SN")
    second = put(store, settings)
    roll_back(store, settings, "", by="me", at=3.0)
    assert put(store, settings, always=True) == second == active(store)


def test_an_earlier_version_is_named_by_its_beginning(store: Store, settings: Settings) -> None:
    versions = []
    for code in ("SC", "SN", "NA"):
        edit(settings, "const: ", f"const: {code}")
        versions.append(put(store, settings))
    back = roll_back(store, settings, versions[0][:8], by="me", at=9.0)
    assert active(store) == versions[0] == back.active.version
    assert back.active.by == "rollback me"


@pytest.mark.parametrize(
    ("version", "fact"), [("zz", "is not kept; there are"), ("", "no version")]
)
def test_what_there_is_not_cannot_be_gone_back_to(
    store: Store, settings: Settings, version: str, fact: str
) -> None:
    with pytest.raises(NoSuchVersion, match="no mappings were ever in force"):
        roll_back(store, settings, version, by="me", at=1.0)
    put(store, settings)
    with pytest.raises(NoSuchVersion, match=fact):
        roll_back(store, settings, version, by="me", at=2.0)
