"""The figures themselves, the servers that are missing, and the clients that get no answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from broker.bench import peers
from broker.bench.dicom import Asking, How, ask
from broker.bench.mllp import send_orders
from broker.bench.report import lines, percentile, ratios, row
from broker.bench.ris import Heard, Ris
from broker.bench.status import Goal, faults
from broker.bench.timings import MeasurementFailed, Timings


def test_a_percentile_is_a_value_that_was_measured():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 99) == 4.0
    assert percentile([1.0], 50) == 1.0


def test_a_ratio_above_one_is_better_in_every_column():
    ours = row("kept", "broker", Timings([0.001] * 10, 0.01, 0))
    peer = row("kept", "other", Timings([0.004] * 10, 0.04, 1))
    (ratio,) = ratios([ours, peer])
    assert [ratio.per_s, ratio.p50_ms, ratio.p99_ms, ratio.max_ms] == pytest.approx([4.0] * 4)
    assert [line.split()[-1] for line in lines([ours, peer])] == ["ms", "1.00", "4.00", "4.00×"]


def test_a_goal_is_met_from_its_side():
    assert [Goal("ms", 10).met(value) for value in (9.0, 10.0, 11.0)] == [True, True, False]
    least = Goal("messages/s", 800, at_least=True)
    assert [least.met(value) for value in (799.0, 800.0)] == [False, True]
    assert f"{least}" == ">= 800"


def test_a_ris_is_told_otherwise_when_an_end_is_missing_or_comes_twice():
    def heard(control_id: str, accession: str, state: str) -> Heard:
        header, order = f"MSH|^~\\&|||||||ORM^O01|{control_id}|P", f"ORC|SC||||{state}"
        return Heard(0.0, f"{header}\r{order}\rOBR|1{'|' * 17}{accession}\r".encode())

    ris = Ris()
    ris.heard = [heard("1", "A", "IP"), heard("2", "A", "CM")]
    assert faults(ris) == 0
    ris.heard += [heard("3", "B", "CM"), heard("4", "B", "IP"), heard("5", "C", "IP")]
    assert faults(ris) == 2
    ris.heard += [heard("6", "C", "CM"), heard("6", "C", "CM")]
    assert faults(ris) == 3


def test_a_peer_that_is_missing_is_left_out(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    with peers.python_hl7() as hl7, peers.wlmscpfs([]) as dcmtk:
        assert hl7 is None
        assert dcmtk is None


@pytest.fixture
def hangs_up() -> Iterator[tuple[str, int]]:
    """A server that accepts one connection and closes it when something was said."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()
        thread.join()


def test_orders_that_nobody_answers_are_no_figures(hangs_up):
    with pytest.raises(MeasurementFailed, match="instead of answering"):
        send_orders(hangs_up, [b"\x0bMSH\x1c\r"], connections=1, seconds=5)


def test_queries_that_nobody_answers_are_no_figures(hangs_up):
    with pytest.raises(MeasurementFailed, match="instead of answering"):
        ask(hangs_up, Asking(How.POLLS, 1), b"", seconds=5)


def test_a_silent_server_ends_the_measurement_in_time():
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(MeasurementFailed, match="no answer within"),
    ):
        send_orders(silent.getsockname(), [b"\x0bMSH\x1c\r"], connections=1, seconds=0.2)
