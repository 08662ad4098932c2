"""The examination of a broker, hop by hop: what it is made of, and what it is connected to."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from broker.cli.doctor.finding import Finding, fail, ok, warn
from broker.cli.status import INVISIBLE, UNENDED, told
from broker.console.health import SILENT_S, Counts, Health
from broker.mapping.checking import check
from broker.mapping.text.nodes import Node
from broker.rollout.risks import Wrong, risks, secured
from broker.settings import Address, Settings
from broker.store import external, metrics, reserve, vitals
from broker.store.executors import Store
from broker.store.stamping import ServerProblem
from broker.supervising import ports
from broker.supervising.doors import instances
from broker.supervising.service_manager import PUBLISHING
from broker.tls.credentials import SOON_DAYS
from broker.tls.validity import ends

CONNECT_S = 3.0
FULL = 0.8
"""Of its memory, from which on a store is nearly full."""
CLOCKS_APART_S = 5.0


def of_configuration(settings: Settings, tree: Node | None = None) -> Iterator[Finding]:
    """Look at the settings and their files, and at how a Redis of others keeps what it is given."""
    try:
        found = risks(settings, tree)
    except Wrong as wrong:
        code = "" if wrong.code == os.EX_UNAVAILABLE else "; no broker would start with it"
        yield fail("configuration", f"{wrong}{code}", "see `broker config check`")
        return
    for sentence in found:
        yield warn("configuration", sentence, "see `broker config check`")
    if not found:
        yield ok("configuration", "right, and nothing about it is risky")


def of_mappings(settings: Settings) -> Iterator[Finding]:
    """Look at the folder of mappings as it is."""
    complaints = check(settings.mappings, examples=False)
    errors = [each for each in complaints if each.severity != "warning"]
    if errors:
        fact = f"{len(errors)} mistakes in {settings.mappings}, the first: {errors[0]}"
        yield fail("mappings", fact.split("\n")[0], "see `broker map check`")
    else:
        yield ok("mappings", f"{settings.mappings} is right")


def of_certificates(settings: Settings) -> Iterator[Finding]:
    """Look at how long every certificate lasts."""
    now = datetime.now(UTC)
    for use, tls in secured(settings):
        for path in filter(None, (tls.certificate, tls.ca)):
            try:
                end = ends(path.read_text(encoding="ascii", errors="replace"))
            except OSError as problem:
                yield fail("certificates", f"{use}.tls: {path}: {problem.strerror}", "put it there")
                continue
            if end:
                left = (end - now).total_seconds() / 86400
                yield _of_days(f"{use}.tls: {path.name} has {left:.1f} days left", left)


def _of_days(fact: str, left: float) -> Finding:
    if left < 0:
        return fail("certificates", fact, "renew it: nobody can connect")
    if left < SOON_DAYS:
        return warn("certificates", fact, "renew it; a new file is taken without a restart")
    return ok("certificates", fact)


def of_store(settings: Settings, store: Store, health: Health) -> Iterator[Finding]:
    """Look at whether it takes writes, and at memory, disk and clock. Raises StoreUnavailable."""
    found = store.run(vitals.vitals())
    if health.refusal:
        yield fail(
            "store", f"takes no writes: {health.refusal}", "make room; then it goes on by itself"
        )
    else:
        yield ok("store", f"Redis {found.version} takes writes")
    if not found.appends:
        yield fail("store", "appendonly is off: a restart loses orders", "set appendonly yes")
    elif not found.append_ok:
        yield fail("store", "its last write to disk failed", "see its log, and its disk")
    used = f"{found.used // 2**20} MiB are used"
    if not found.allowed:
        yield warn("memory", f"{used}, without a bound", "set maxmemory")
    elif found.used > FULL * found.allowed:
        remedy = "raise redis.max_memory, or shorten keep"
        yield warn("memory", f"{used} of {found.allowed // 2**20}", remedy)
    else:
        yield ok("memory", f"{used} of {found.allowed // 2**20}")
    yield from _of_disk(settings)
    apart_s = store.run(vitals.clock()) - time.time()
    if abs(apart_s) > CLOCKS_APART_S:
        fact = f"the store's is {apart_s:+.1f} s from ours"
        yield warn("clock", fact, "let both follow one time server (NTP)")
    else:
        yield ok("clock", f"as the store's, time zone {settings.timezone}")


def of_group(settings: Settings) -> Iterator[Finding]:
    """Look at who has what is promised, and at whether a failover would succeed."""
    if settings.redis.sentinel is None:
        return
    try:
        standing = external.standing(settings.redis.full_url)
    except ServerProblem as problem:
        yield fail("replicas", f"{problem}", "see the log of the master, and of the Sentinels")
        return
    if standing is None:
        return
    fact = f"{standing.replicas} follow {standing.master}, {standing.behind} bytes behind"
    if standing.short:
        short = f"{fact}; {standing.needed} are needed: nothing is acknowledged, senders send again"
        yield fail("replicas", short, "start them; see their logs, and the network to the master")
    elif standing.replicas == standing.needed and standing.needed:
        yield warn("replicas", f"{fact}; without one of them nothing is acknowledged", "have more")
    else:
        yield ok("replicas", fact)
    agree = f"{standing.agree} of {standing.sentinels} would carry a failover"
    for trouble in standing.troubles:
        yield warn("sentinels", f"{agree}; {trouble}", "see its log: nobody may take over")
    if not standing.troubles:
        yield ok("sentinels", agree)


def _of_disk(settings: Settings) -> Iterator[Finding]:
    if not settings.redis.is_ours or not settings.data.is_dir():
        return
    remedy = "make room on its disk; orders are refused below redis.disk_reserve"
    for times, say in ((1, fail), (2, warn)):
        if shortage := reserve.shortage(settings.data, times * settings.redis.disk_reserve):
            yield say("disk", shortage, remedy)
            return
    yield ok("disk", f"more than twice redis.disk_reserve is free for {settings.data}")


def of_doors(settings: Settings, health: Health) -> Iterator[Finding]:
    """Look at which processes have been heard of lately, and with which mappings they work."""
    heard: dict[str, int] = {}
    for name, taken in health.doors.items():
        role = name.partition(":")[0]
        heard[role] = heard.get(role, 0) + (health.at - taken.at < SILENT_S)
    for role in (role for role in ("orders", "modality", "updates") if role in PUBLISHING):
        wanted, alive = instances(settings, role), heard.get(role, 0)
        fact = f"{alive} of {wanted} processes were heard in the last {SILENT_S:g} s"
        if not alive:
            yield fail(role, fact, f"start it: `broker run`; see the log of the {role} door")
        elif alive < wanted:
            yield warn(role, fact, f"see the log of the {role} door")
        else:
            yield ok(role, fact)
    yield from _of_versions(health)


def _of_versions(health: Health) -> Iterator[Finding]:
    if failed := health.failed_reload:
        fact = f"the last reload failed ({failed.by}); the former ones stay in force"
        yield warn("mappings", fact, "see `broker status`, then `broker map reload`")
    if health.mappings is None:
        yield warn("mappings", "none are in force yet", "see `broker map reload`")
        return
    others = [
        name
        for name, taken in health.doors.items()
        if (version := metrics.mapping_version(taken))
        and version != health.mappings.short
        and health.at - taken.at < SILENT_S
    ]
    if others:
        fact = f"{', '.join(sorted(others))} do not work with {health.mappings.short}"
        yield warn("mappings", fact, "they take it within a second; else start them anew")


def of_ports(settings: Settings) -> Iterator[Finding]:
    """Connect to each listener, and say nothing."""
    for role in ("orders", "modality", "console"):
        for key, address in ports.addresses(settings, role):
            fact = _unreachable(_here(address))
            if fact:
                remedy = f"does the {role} door run here, and listen there?"
                yield fail("ports", f"{key}: {address}: {fact}", remedy)
            else:
                yield ok("ports", f"{key}: {address} answers")


def of_destinations(settings: Settings, counts: Counts) -> Iterator[Finding]:
    """Connect to each destination, and look at what waits for it."""
    for to in settings.destinations:
        what = f"to {to.name}"
        fact = _unreachable(to.to)
        waits = counts.pending.get(to.name, 0)
        if fact:
            remedy = "is it up, is the address right, does a firewall stand between? all waits"
            yield fail(what, f"{to.to}: {fact}; {waits} orders wait", remedy)
        else:
            yield ok(what, f"{to.to} can be connected to, {waits} orders wait")
        if pause := counts.paused.get(to.name):
            yield warn(what, f"paused by {pause.by}", f"`broker outbox resume {to.name}`")
        if stopped := counts.stopped.get(to.name):
            fact = f"{stopped} orders wait for a person after a refusal"
            yield warn(what, fact, "see `broker dead`")


def of_work(counts: Counts, health: Health) -> Iterator[Finding]:
    """Look at what waits for a person."""
    for count, fact, remedy in (
        (counts.held, "messages wait for a code that no table has", "see `broker unmapped`"),
        (counts.refused, "messages could not be applied", "see `broker dead`"),
        (counts.dead_letters, "messages were refused by a destination", "see `broker dead`"),
        (counts.exceptions, "exams are to be looked at", "see `broker mpps list`"),
        (told(health, INVISIBLE), "steps are on no known AE's list", "`broker list --invisible`"),
        (told(health, UNENDED), "steps began long ago and have no end", "`broker list --unended`"),
    ):
        yield warn("work", f"{count} {fact}", remedy) if count else ok("work", f"no {fact}")


def of_selftest(settings: Settings, health: Health) -> Iterator[Finding]:
    """Look at the last self-test."""
    every = settings.selftest.every
    well, _ = health.deep(every.total_seconds() if every else None)
    tested = health.tested
    if tested is None and every is None:
        yield ok("self-test", "never ran; `broker selftest` runs it, selftest.every by itself")
    elif tested and not tested.ok:
        fault = next(hop.fault for hop in tested.hops if hop.fault)
        yield fail("self-test", f"failed at the hop {tested.failing}: {fault}", "`broker selftest`")
    elif not well and not health.refusal:
        yield fail("self-test", "has not run for too long", "see the log of `broker run`")
    else:
        yield ok("self-test", "held")


def _unreachable(address: Address) -> str:
    try:
        socket.create_connection(address, CONNECT_S).close()
    except OSError as error:
        return error.strerror or f"{error}" or type(error).__name__
    return ""


def _here(address: Address) -> Address:
    return Address(EVERYWHERE.get(address.host, address.host), address.port)


EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - never bound
