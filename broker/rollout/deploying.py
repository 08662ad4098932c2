"""A folder of mappings checked and put in force through the store, or refused with every reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from socket import gethostname

from broker.mapping.bundle import Bundle
from broker.mapping.packing import read_folder, unpack
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.text.nodes import Complaint, Complaints
from broker.mapping.text.surviving import surviving
from broker.rollout.outcome import Deployed, note_failure
from broker.settings import Ris, Settings
from broker.store import bundles
from broker.store.bundles import Activation
from broker.store.executors import Store, StoreUnavailable


class NoSuchVersion(Exception):
    """The bundle to go back to is not kept; the text says which are."""


def deploy(
    store: Store, settings: Settings, *, by: str, at: float, always: bool = True
) -> Deployed:
    """Check the folder, examples and all, and put it in force.

    `by` says who wants it, `at` when (epoch s). Not `always`: what came into force since (by a
    rollback, from another host) stays while this folder is as it was. Raises StoreUnavailable, and
    Complaints, which are noted in the store and change nothing else.
    """
    return deploy_bundle(store, settings, by=by, at=at, always=always)[0]


def deploy_bundle(
    store: Store, settings: Settings, *, by: str, at: float, always: bool = True
) -> tuple[Deployed, Bundle]:
    """Do what `deploy` does, and give what the folder holds, which another version may outdo."""
    try:
        files = read_folder(settings.mappings)
        bundle = _checked(files, settings, settings.mappings)
        # Somebody may have gone on writing meanwhile, and have put that in force already: what is
        # older than the folder must not come after it.
        while (newer := read_folder(settings.mappings)) != files:
            files, bundle = newer, _checked(newer, settings, settings.mappings)
    except Complaints as wrong:
        note_failure(store, by=by, at=at, reason=str(wrong))
        raise
    wanted = Activation(bundle.version, at, by, _origin(settings))
    if not always and (kept := _kept(store, settings, wanted)):
        store.run(bundles.forget_failure())
        return _deployed(kept, bundle, changed=False), bundle
    return _activated(store, files, bundle, wanted), bundle


def roll_back(store: Store, settings: Settings, version: str, *, by: str, at: float) -> Deployed:
    """Put an earlier bundle in force again; '' for the one before the present one.

    A version may be shortened. Raises NoSuchVersion, Complaints when it does not load any more,
    StoreUnavailable.
    """
    history = store.run(bundles.history())
    kept = bundles.versions(history)
    wanted = _wanted(kept, version)
    files = store.run(bundles.get(wanted.version))
    if files is None:
        raise NoSuchVersion(f"version {wanted.short} is not kept any more")
    bundle = _checked(files, settings, Path(wanted.short))
    again = Activation(bundle.version, at, f"rollback {by}")
    return _activated(store, files, bundle, again)


def load_version(
    files: Mapping[str, bytes], folder: Path, ris: Iterable[Ris], *, examples: bool = False
) -> Bundle:
    """The bundle of stored files, fit for these RIS. Raises Complaints about files in `folder`."""
    with surviving(str(folder)):
        bundle = unpack(files, folder, examples=examples)
    if unfit := list(_unfit(bundle, ris)):
        raise Complaints(unfit)
    return bundle


def _checked(files: Mapping[str, bytes], settings: Settings, folder: Path) -> Bundle:
    return load_version(files, folder, settings.ris, examples=True)


def _activated(
    store: Store, files: Mapping[str, bytes], bundle: Bundle, wanted: Activation
) -> Deployed:
    history = store.run(bundles.history())
    ours = _of_origin(history, wanted.origin)
    # A folder edited to be what a rollback had put in force has to be remembered as such.
    remembered = ours is None or ours.version == wanted.version
    if history and history[0].version == wanted.version and remembered:
        store.run(bundles.forget_failure())
        return _deployed(history[0], bundle, changed=False)
    store.run(bundles.put(wanted.version, files))
    if not store.run(
        bundles.activate(wanted.version, at=wanted.at, by=wanted.by, origin=wanted.origin)
    ):
        raise StoreUnavailable("other mappings were put in force at the same time")
    return _deployed(wanted, bundle, changed=True)


def _deployed(active: Activation, bundle: Bundle, *, changed: bool) -> Deployed:
    return Deployed(active, changed, bundle.version, len(bundle.inbound) + len(bundle.outbound))


def _origin(settings: Settings) -> str:
    return f"{gethostname()}:{settings.mappings}"


def _of_origin(history: Iterable[Activation], origin: str) -> Activation | None:
    return next((each for each in history if origin and each.origin == origin), None)


def _kept(store: Store, settings: Settings, wanted: Activation) -> Activation | None:
    """What is in force instead of a folder that says nothing new; None when it shall come in."""
    history = store.run(bundles.history())
    ours = _of_origin(history, wanted.origin)
    # A container has another name each time: what it brings along is news if nobody had it before.
    former = [ours] if ours else history
    if wanted.version not in {each.version for each in former}:
        return None
    if wanted.version == history[0].version:
        return history[0]
    files = store.run(bundles.get(history[0].version))
    try:  # another release of the program may not understand it any more
        load_version(files or {}, settings.mappings, settings.ris)
    except Complaints:
        return None
    return history[0]


def _wanted(kept: list[Activation], version: str) -> Activation:
    if not kept:
        raise NoSuchVersion("no mappings were ever in force")
    if not version:
        if len(kept) == 1:
            raise NoSuchVersion(f"there is no version before {kept[0].short}")
        return kept[1]
    found = [each for each in kept if each.version.startswith(version)]
    if len(found) != 1:
        fact = "is ambiguous" if found else "is not kept"
        shown = ", ".join(each.short for each in kept)
        raise NoSuchVersion(f"version {version} {fact}; there are: {shown}")
    return found[0]


def _unfit(bundle: Bundle, ris: Iterable[Ris]) -> Iterable[Complaint]:
    """Names of outbound mappings in the configuration that the mappings do not have."""
    for each in ris:
        if each.mapping not in bundle.outbound:
            fact = f"ris '{each.name}': there is no mapping '{each.mapping}' that goes out"
            known = ", ".join(sorted(bundle.outbound)) or "none"
            hint = did_you_mean(each.mapping, bundle.outbound) or f"there are: {known}"
            yield Complaint("broker.yaml", 0, 0, fact, hint)
