"""A whole broker over TLS at every hop, where each peer has to be who it says it is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli.program import program
from broker.probe.address import Address, Unreachable
from broker.probe.orders import Envelope, orm_o01
from broker.probe.ris import Sender, Sink
from broker.probe.scanner import STEP, SUCCESS, Scanner, new_uid, worklist_keys
from broker.probe.secure import Secure
from broker.store import reads
from broker.store.executors import Store, StoreUnavailable
from tests.doors.actors import Broker, new_order, until
from tests.ports import free_port
from tests.tls.authority import Authority

pytestmark = pytest.mark.peer("redis-server")

CONFIG = """\
data: data
timezone: Europe/Berlin
hl7:
  processes: 2
  listeners:
    - listen: '127.0.0.1:0'
      tls: {{certificate: pki/server.pem, ca: pki/ca.pem}}
      senders: [{{sender: 'PROBERIS|NORTH', certificate: ris.north.example}}, 'PROBERIS|*']
dicom:
  listen: '127.0.0.1:0'
  plain: false
  tls: {{listen: '127.0.0.1:0', certificate: pki/server.pem, ca: pki/ca.pem}}
  aes: [{{title: CT1, certificate: ct1.north.example}}, {{title: CT2}}]
redis: {{url: 'rediss://localhost:{redis}/0', tls: {{ca: pki/ca.pem, certificate: pki/broker.pem}}}}
ris:
  - name: north
    to: '{ris}'
    tls: {{ca: pki/ca.pem, certificate: pki/broker.pem, server_name: ris.north.example}}
console: {{listen: '127.0.0.1:0'}}
"""
PKI = {
    "server": ("localhost", "127.0.0.1"),
    "broker": ("broker.north.example",),
    "ris": ("ris.north.example",),
    "ct1": ("ct1.north.example",),
    "ct2": ("ct2.north.example",),
}


class Hospital:
    """The certificates, and a broker that speaks nothing but TLS."""

    def __init__(self, authority: Authority, broker: Broker, sink: Sink, redis_url: str) -> None:
        self.authority, self.broker, self.sink = authority, broker, sink
        self.redis_url = redis_url
        said = (broker.folder / "out").read_text().split()
        places = dict(word.split("=") for word in said[1:])
        host, port = places["dicom-tls"].rsplit(":", 1)
        self.dicom = Address(host, int(port))
        assert "dicom" not in places, "the plain port is closed"

    def secure(self, who: str | None) -> Secure:
        path = self.authority.folder / f"{who}.pem" if who else None
        return Secure(self.authority.client(path), "localhost")

    def sender(self, who: str | None = "ris") -> Sender:
        return Sender(self.broker.hl7, secure=self.secure(who))

    def scanner(self, title: str, who: str | None) -> Scanner:
        return Scanner(self.dicom, calling=title, secure=self.secure(who))


@pytest.fixture(scope="module")
def hospital() -> Iterator[Hospital]:
    folder = Path(tempfile.mkdtemp(prefix="secure-"))
    authority = Authority(folder / "pki")
    for file, names in PKI.items():
        authority.issue(file, *names)
    port = free_port()
    redis = subprocess.Popen(
        [
            *("redis-server", "--port", "0", "--tls-port", f"{port}", "--bind", "127.0.0.1"),
            *("--tls-cert-file", "server.pem", "--tls-key-file", "server.pem"),
            *("--tls-ca-cert-file", "ca.pem", "--appendonly", "yes"),
        ],
        cwd=authority.folder,
        stdout=subprocess.DEVNULL,
    )
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    ours.load_cert_chain(authority.folder / "ris.pem")
    ours.verify_mode = ssl.CERT_REQUIRED
    sink = Sink(tls=ours)
    broker = Broker(CONFIG.format(redis=port, ris=sink.start()))
    (broker.folder / "pki").symlink_to(authority.folder)
    try:
        broker.start()
        files = "&".join(
            f"ssl_{name}={authority.folder}/{file}.pem"
            for name, file in (("ca_certs", "ca"), ("certfile", "ris"), ("keyfile", "ris"))
        )
        yield Hospital(authority, broker, sink, f"rediss://localhost:{port}/0?{files}")
    finally:
        broker.end()
        sink.stop()
        redis.send_signal(signal.SIGTERM)
        redis.wait(10)
        shutil.rmtree(folder)


def test_an_order_and_its_exam_go_round_over_tls_at_every_hop(hospital: Hospital) -> None:
    order = new_order()
    with hospital.sender() as ris:
        assert [answer.code for answer in ris.send(orm_o01(order))] == ["AA"]
    ct1 = hospital.scanner("CT1", "ct1")
    (item,) = ct1.find(worklist_keys(accession=order.accession))
    assert item[STEP][0]["ScheduledStationAETitle"] == "CT1"
    uid, now = new_uid(), order.start
    assert ct1.mpps_start(item, uid=uid, now=now) == SUCCESS
    assert ct1.mpps_complete(uid, now=now) == SUCCESS

    def told() -> list[str]:
        mine = (m for m in hospital.sink.received if order.placer in m.text)
        return [message.field("ORC", 5) for message in mine]

    until(lambda: told() == ["IP", "CM"], "the RIS is told of begin and end")


@pytest.mark.parametrize("who", ["ct1", "broker"])
def test_a_sender_with_the_certificate_of_another_is_ar_103(hospital: Hospital, who: str) -> None:
    """Although a line with * would take it: its own line says who it has to be."""
    order = new_order()
    with hospital.sender(who) as ris:
        (answer,) = ris.send(orm_o01(order))
        assert (answer.code, answer.control_id != "") == ("AR", True)
        assert "the certificate of this connection is not that of this sender" in answer.text
        south = Envelope(facility="SOUTH")
        (answer,) = ris.send(orm_o01(order, envelope=south))
        assert answer.code == "AA"


def test_an_ae_with_the_certificate_of_another_is_rejected_as_unknown(hospital: Hospital) -> None:
    """1/1/3, calling AE title not recognized; an AE without names may have any of our CA."""
    with pytest.raises(Unreachable, match=r"[Cc]alling AE title not recogni"):
        hospital.scanner("CT1", "ct2").echo()
    assert hospital.scanner("CT2", "ct1").echo() == SUCCESS
    assert hospital.scanner("STRANGER", "ct1").echo() == SUCCESS
    until(lambda: "calling AE title not that of its certificate" in hospital.broker.log())


def test_nobody_without_a_certificate_comes_in_at_any_door(hospital: Hospital) -> None:
    with pytest.raises(Unreachable, match="hung up after the handshake; does it want a cert"):
        hospital.scanner("CT2", None).echo()
    with pytest.raises(Unreachable), hospital.sender(None) as ris:
        ris.send(orm_o01(new_order()))
    ours, stranger = Store(hospital.redis_url), Store(hospital.redis_url.partition("&")[0])
    assert ours.run(reads.ping())
    with pytest.raises(StoreUnavailable):
        stranger.run(reads.ping())
    ours.close()
    stranger.close()
    until(lambda: hospital.broker.log().count("it has shown no certificate") >= 2)


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize(
    ("certificate", "answers", "says"),
    [("ct1", 1, ""), ("ct2", 0, "Calling AE Title Not Recognized"), (None, 0, "Peer aborted")],
)
def test_findscu_of_dcmtk_asks_over_tls(
    hospital: Hospital,
    dcmtk_program: Callable[[str], Path],
    tmp_path: Path,
    certificate: str | None,
    answers: int,
    says: str,
) -> None:
    """DCMTK's profile is BCP 195, non-downgrading (PS3.15 B.10), as scanners have it."""
    order = new_order()
    with hospital.sender() as ris:
        ris.send(orm_o01(order))
    pki = hospital.authority.folder
    proof = [f"{pki}/{certificate}.pem"] * 2
    tls = ["+tls", *proof] if certificate else ["+tla"]
    told = subprocess.run(
        [
            *(dcmtk_program("findscu"), "-v", *tls, "--add-cert-file", f"{pki}/ca.pem"),
            *("-W", "-aet", "CT1", "-aec", "BROKER", "-X", "-od", str(tmp_path)),
            *("-k", f"AccessionNumber={order.accession}", "-k", "PatientName"),
            *("localhost", f"{hospital.dicom.port}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert len(list(tmp_path.glob("*.dcm"))) == answers, told.stderr
    assert says in told.stderr + told.stdout


def test_a_renewed_certificate_is_shown_without_a_restart(hospital: Hospital) -> None:
    def shown() -> set[str]:
        serials = set()
        for at in (hospital.broker.hl7, hospital.dicom):
            context, name = hospital.secure("ris").of(at)
            with (
                socket.create_connection(at, 5) as raw,
                context.wrap_socket(raw, server_hostname=name) as peer,
            ):
                serials.add(str((peer.getpeercert() or {})["serialNumber"]))
        return serials

    (before,) = shown()
    held = hospital.sender()
    hospital.authority.issue("server", *PKI["server"])
    until(lambda: before not in shown() and len(shown()) == 1, "the new one is shown")
    (answer,) = held.send(orm_o01(new_order()))
    assert answer.code == "AA", "what is open stays open"
    held.close()
    for door in ("orders", "modality", "updates"):
        name = f"broker_{door}_certificate_days_left"
        until(lambda name=name: hospital.broker.metric(name) > 30, name)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["send", "{order}", "--to", "{hl7}"], "AA"),
        (["echo", "--to", "{dicom}", "--calling", "CT1"], "answered C-ECHO"),
        (["find", "--to", "{dicom}", "--calling", "CT1"], "CT"),
    ],
)
def test_engineers_try_it_with_one_option(
    hospital: Hospital, verb: list[str], said: str, tmp_path: Path
) -> None:
    pki = hospital.authority.folder
    with hospital.sender() as ris:
        ris.send(orm_o01(new_order()))
    order = tmp_path / "order.hl7"
    order.write_bytes(orm_o01(new_order(), envelope=Envelope(facility="SOUTH")))

    def tried(who: str) -> Result:
        places = {"hl7": hospital.broker.hl7, "dicom": hospital.dicom, "order": order}
        words = [word.format(**{name: str(at) for name, at in places.items()}) for word in verb]
        tls = f"ca={pki}/ca.pem,certificate={pki}/{who}.pem,server_name=localhost"
        return CliRunner().invoke(program(), ["probe", *words, "--tls", tls])

    good = tried("ct1")
    assert good.exit_code == 0, good.output
    assert said in good.output
    (pki / "strange.pem").write_bytes(
        Authority(pki / "strange").issue("strange", "ct1.north.example").read_bytes()
    )
    bad = tried("strange")
    assert bad.exit_code == os.EX_UNAVAILABLE
    assert "does it want a certificate, or another?" in bad.output


@pytest.mark.peer("dcmtk")
def test_the_commands_of_the_documentation_work_as_they_are_written(
    hospital: Hospital,
    dcmtk_program: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the ports, and the folder in which the files are."""
    root = Path(__file__).parents[2]
    page = (root / "docs/security.md").read_text(encoding="utf-8")
    lines = [
        line
        for found in re.findall(r"^```sh (?:tls|check)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in found.splitlines()
    ]
    assert len(lines) == 5
    pki = hospital.authority.folder
    for name, made_of in (
        ("hospital-ca.pem", "ca"),
        ("ct1.pem", "ct1"),
        ("ct1.key", "ct1"),
        ("engine.pem", "ris"),
    ):
        shutil.copy(pki / f"{made_of}.pem", tmp_path / name)
    (tmp_path / "order.hl7").write_bytes(orm_o01(new_order()))
    monkeypatch.chdir(tmp_path)
    for line in lines:
        line = line.replace("broker.north.example:2762", str(hospital.dicom))
        line = line.replace("broker.north.example:2575", str(hospital.broker.hl7))
        line = line.replace("broker.north.example 2762", f"localhost {hospital.dicom.port}")
        name, *words = shlex.split(line)
        if name == "broker":
            told = CliRunner().invoke(program(), words)
            assert told.exit_code == 0, f"{line}: {told.output}"
        else:
            subprocess.run([dcmtk_program(name), *words], check=True, timeout=30)


def test_plain_hl7_and_plain_dicom_get_nothing(hospital: Hospital) -> None:
    with pytest.raises(Unreachable), Sender(hospital.broker.hl7) as plain:
        plain.send(orm_o01(new_order()))
    with pytest.raises(Unreachable):
        replace(hospital.scanner("CT2", "ct2"), secure=None).echo()


def test_a_certificate_that_cannot_be_read_ends_the_start_with_78_and_its_place(
    tmp_path: Path,
) -> None:
    config = tmp_path / "broker.yaml"
    config.write_text(
        "data: data\nhl7: {listen: '127.0.0.1:0', tls: {certificate: none.pem}}\n"
        "dicom: {listen: '127.0.0.1:0'}\nconsole: {listen: '127.0.0.1:0'}\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", config],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert told.returncode == os.EX_CONFIG
    assert f"hl7.listeners.0.tls: {tmp_path / 'none.pem'}: No such file or directory" in told.stderr
