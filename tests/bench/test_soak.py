"""`broker bench soak`: some seconds of it for real, and rules that say no when they should."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from broker.bench.processes import Cost
from broker.bench.ris import ACKNOWLEDGED, Heard
from broker.bench.soak import ledger, verdicts
from broker.bench.soak.lists import FORGOTTEN_S, Lists
from broker.bench.soak.load import Load
from broker.bench.soak.messages import frame
from broker.bench.soak.plan import CYCLE, LAG, SENDERS, Fate, Kind, Place, Plan, most_minutes
from broker.bench.soak.watch import Sample, troubles
from tests.doors.actors import until

TODAY = date(2026, 3, 16)
PLAN = Plan(orders=50, polls=20, mpps=2, today=TODAY)
PLACE = Place("SOAK1", TODAY)
SOAK = (sys.executable, "-m", "broker", "bench", "soak")


# --- for real


@pytest.mark.peer("redis-server")
def test_some_seconds_of_it_lose_nothing():
    done = subprocess.run(
        [*SOAK, "--minutes", "0.2", "--entries", "40", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    whole = report["rows"][-1]
    counts = {name: hop["count"] for name, hop in whole["hops"].items()}
    assert counts[ledger.MLLP] == sum(PLAN.message(tick) is not None for tick in range(600))
    assert counts[ledger.STANDING] + counts[ledger.FRESH] == 240
    assert counts[ledger.CREATE] == counts[ledger.SET] == 14
    assert counts[ledger.TOLD] == 28
    assert counts[ledger.SEEN] > 50
    assert {"supervisor", "orders", "modality", "updates", "console", "redis"} <= set(
        whole["costs"]
    )
    found = {each["name"]: each["good"] for each in report["verdicts"]}
    assert found["memory of orders flat"] is None  # a slope of seconds is noise
    assert set(found.values()) == {True, None}
    assert "minute 1" in done.stderr


@pytest.mark.peer("redis-server")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_soak_that_is_ended_before_its_time_ends_at_once(end):
    words = [*SOAK, "--minutes", "30", "--entries", "0"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as soak:
        try:
            until(lambda: list(threads_of(soak.pid)), "the load")
            soak.send_signal(end)
            assert soak.wait(90) > 0
        finally:
            soak.kill()


def threads_of(pid: int) -> Iterator[Path]:
    """Those of the load: whatever runs beside the main thread and the RIS."""
    yield from list(Path(f"/proc/{pid}/task").iterdir())[10:]


def test_more_exams_than_there_are_orders_for_are_a_usage_mistake():
    done = subprocess.run([*SOAK, "--orders", "10", "--mpps", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--orders 20" in done.stderr


@contextmanager
def stalling(seconds: float) -> Iterator[tuple[str, int]]:
    """Someone who acknowledges everything, but the first message late."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(SENDERS + 1) as pool:
        server.settimeout(0.05)
        over, stalled = threading.Event(), threading.Event()

        def answer(peer: socket.socket) -> None:
            with peer:
                while said := peer.recv(65536):
                    if not stalled.is_set():
                        stalled.set()
                        time.sleep(seconds)
                    peer.sendall(ACKNOWLEDGED % (b"1", said.split(b"|", 10)[9]))

        def accept() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    peer, _ = server.accept()
                    peer.settimeout(10)
                    pool.submit(answer, peer)

        pool.submit(accept)
        try:
            yield server.getsockname()
        finally:
            over.set()


def test_what_waits_behind_a_slow_answer_counts_from_when_it_was_due():
    """Else a server that stalls would look as if it had been asked less."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = nobody.getsockname()
    with stalling(0.6) as hl7, ThreadPoolExecutor(20) as pool:
        began = time.monotonic()
        load = Load(PLAN, hl7, closed, began, began + 0.8)
        for each in load.start(pool):
            each.result()
    hops = {name: tally.hop() for name, tally in load.ledger.drain().items()}
    assert hops[ledger.MLLP].count == sum(PLAN.message(tick) is not None for tick in range(40))
    assert hops[ledger.MLLP].max_ms >= 500
    assert hops[ledger.MLLP].p95_ms > 100  # the second one behind it
    assert hops[ledger.FRESH].errors == hops[ledger.STANDING].errors == 8  # nobody listens there
    assert "ConnectionRefusedError" in hops[ledger.FRESH].words[0]


# --- the plan


def test_every_order_is_sent_before_it_is_spoken_of_and_over_the_same_connection():
    seen = set()
    for tick in range(len(CYCLE) * LAG * 4):
        message = PLAN.message(tick)
        if message is None:
            continue
        if message.kind is Kind.NEW:
            assert message.number not in seen
            seen.add(message.number)
        assert message.number in seen
        assert 100_000 < message.number < 1_000_000


def test_each_exam_is_of_another_order_that_stands_on_a_polled_list_five_seconds_before():
    sent = {m.number: (tick, m) for tick in range(5000) if (m := PLAN.message(tick))}
    exams = [PLAN.exam(count) for count in range(150)]
    assert len(set(exams)) == len(exams)
    for count, number in enumerate(exams):
        tick, message = sent[number]
        assert message.fate is Fate.EXAMINED
        assert message.place == PLAN.polled_of(number)
        assert abs(tick / PLAN.orders - count / PLAN.mpps) < 0.2


def test_an_order_that_is_moved_goes_from_a_polled_list_to_one_that_is_not():
    moved = [m for tick in range(600) if (m := PLAN.message(tick)) and m.fate is Fate.MOVED]
    places = {kind: [m.place.station for m in moved if m.kind is kind] for kind in Kind}
    assert all(station.startswith("SOAK") for station in places[Kind.NEW])
    assert all(station.startswith("CT") for station in places[Kind.UPDATE])


def test_no_two_messages_have_one_control_id_and_all_say_what_they_are_about():
    frames = {
        tick: frame(message, tick, sent=datetime(2026, 3, 16, 9, tzinfo=UTC))
        for tick in range(400)
        if (message := PLAN.message(tick))
    }
    assert len({each.split(b"|", 10)[9] for each in frames.values()}) == len(frames)
    assert {each.split(b"|", 9)[8].split(b"^")[0] for each in frames.values()} == {
        *(b"ORM", b"OMG", b"OMI", b"ADT")
    }
    assert not any(b"{" in each for each in frames.values())


def test_numbers_last_for_hours():
    assert most_minutes(50) > 8 * 60 - 1


# --- what a list must hold


def lists(*, taken: float | None, leaves: float | None = None, left: float | None = None) -> Lists:
    made = Lists()
    made.coming(PLACE, 1)
    if taken is not None:
        made.taken(PLACE, 1, taken)
    if leaves is not None:
        made.leaving(PLACE, 1, leaves)
    if left is not None:
        made.left(PLACE, 1, left)
    return made


@pytest.mark.parametrize(
    ("known", "found", "wrong"),
    [
        (lists(taken=9.0), [1], ""),
        (lists(taken=9.0), [], "missing"),
        (lists(taken=10.5), [], ""),
        (lists(taken=10.5), [1], ""),
        (lists(taken=None), [1], ""),
        (lists(taken=9.0, leaves=10.5), [], ""),
        (lists(taken=9.0, leaves=10.5), [1], ""),
        (lists(taken=9.0, leaves=11.5), [], "missing"),
        (lists(taken=8.0, leaves=9.0, left=9.5), [], ""),
        (lists(taken=8.0, leaves=9.0, left=9.5), [1], "must not be"),
        (lists(taken=8.0, leaves=9.0, left=10.5), [1], ""),
        (lists(taken=9.0), [1, 2], "must not be"),
    ],
)
def test_a_list_is_judged_by_what_was_acknowledged_before_it_was_asked_for(known, found, wrong):
    """Asked at 10, answered at 11; what happens in between may be seen or not."""
    said = list(known.wrong(PLACE, found, asked=10.0, answered=11.0))
    assert len(said) == bool(wrong)
    assert all(wrong in each for each in said)


def test_what_has_left_long_ago_is_forgotten_and_still_must_not_be_there():
    known = lists(taken=1.0, leaves=2.0, left=3.0)
    later = 4.0 + FORGOTTEN_S
    assert not list(known.wrong(PLACE, [], asked=later, answered=later))
    assert len(list(known.wrong(PLACE, [1], asked=later, answered=later))) == 1


# --- verdicts


def run(
    mib_per_h: float = 0.0, descriptors_per_h: float = 0.0, minutes: float = 20
) -> list[Sample]:
    """Samples of a process that grows so fast, with the noise that there is."""

    def cost(at: float) -> Cost:
        noise = 0.3 * (int(at) % 3)
        grown = 100 + mib_per_h * at / 3600 + noise
        return Cost(int(20 + descriptors_per_h * at / 3600), 4, grown, grown, grown)

    moments = [5.0 * n for n in range(int(minutes * 12))]
    return [Sample(at, {"orders": cost(at), "redis": cost(9 * at)}, at, at) for at in moments]


@pytest.mark.parametrize(
    ("mib_per_h", "minutes", "good"),
    [
        (0.0, 20, True),
        (6.0, 20, True),
        (10.0, 20, False),
        (10.0, 12, False),
        (-30.0, 20, True),
        (20.0, 20, False),
        (20.0, 5, None),
    ],
)
def test_memory_that_grows_is_bad_once_there_is_enough_to_tell(mib_per_h, minutes, good):
    [verdict] = verdicts.memory(run(mib_per_h=mib_per_h, minutes=minutes))
    assert (verdict.name, verdict.good) == ("memory of orders flat", good)


@pytest.mark.parametrize(("per_h", "good"), [(0.0, True), (60.0, False)])
def test_a_descriptor_a_minute_is_bad(per_h, good):
    found = {each.name: each for each in verdicts.handles(run(descriptors_per_h=per_h))}
    assert found["descriptors flat"].good is good
    assert found["threads flat"].good is True
    if not good:
        assert "redis" in found["descriptors flat"].figure


def test_a_store_that_grows_more_than_what_came_explains_is_bad():
    samples = run()  # which grow from 0 to 1195 MiB
    assert not verdicts.store(samples, {"orders": 100, "messages": 200, "exams": 10}).good
    assert verdicts.store(samples, {"orders": 300_000, "messages": 0, "exams": 0}).good


def heard(control_id: str, number: int, state: str) -> Heard:
    header, order = f"MSH|^~\\&|||||||ORM^O01|{control_id}|P", f"ORC|SC||||{state}"
    return Heard(0.0, f"{header}\r{order}\rOBR|1{'|' * 17}ACC{number}\r".encode())


BEGIN, END = heard("1", 7, "IP"), heard("2", 7, "CM")


@pytest.mark.parametrize(
    ("told", "good"),
    [
        ([BEGIN, END], True),
        ([END, BEGIN], False),
        ([BEGIN], False),
        ([], False),
        ([BEGIN, END, END], False),
        ([BEGIN, END, heard("3", 8, "IP")], False),
        ([BEGIN, heard("1", 7, "CM")], False),
    ],
)
def test_a_ris_that_is_told_otherwise_is_bad(told, good):
    assert verdicts.all_told([7], [7], told).good is good


def test_what_is_found_is_said_with_its_first_words():
    assert verdicts.none("no errors", [], "rule").good
    verdict = verdicts.none("log clean", {"error: store unavailable": 3}, "rule")
    assert not verdict.good
    assert "store unavailable (3)" in verdict.figure


def test_a_log_is_looked_through_for_warnings_errors_and_what_is_no_line_of_ours(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text(
        '{"event": "message", "level": "info"}\n{"event": "lost", "level": "warning"}\n'
        '{"event": "lost", "level": "warning"}\nTraceback (most recent call last):\n'
    )
    assert troubles(log) == {"warning: lost": 2, "Traceback (most recent call last):": 1}
