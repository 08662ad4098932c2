"""`broker probe …`: be the RIS or the scanner for a moment, against any peer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.spreading import spread
from broker.probe.address import Address, Unreachable, parse_address

if TYPE_CHECKING:
    from broker.probe.scanner import Attributes, Scanner, Status
    from broker.probe.secure import Secure

app = typer.Typer(no_args_is_help=True, help="Pretend to be a RIS or a scanner.")
mpps = typer.Typer(no_args_is_help=True, help="Report a performed procedure step.")
app.add_typer(mpps, name="mpps")


def register(program: typer.Typer) -> None:
    """Add `probe` to the program."""
    program.add_typer(app, name="probe")


def _read_address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def option_to(default_port: int) -> typer.models.OptionInfo:
    """The option that says where the peer listens."""
    example = f"e.g. 127.0.0.1:{default_port}"
    option: typer.models.OptionInfo = typer.Option(
        "--to", parser=_read_address, metavar="HOST:PORT", help=f"The peer, {example}."
    )
    return option


Hl7Peer = Annotated[Address, option_to(2575)]
Called = Annotated[str, typer.Option(help="The peer's AE title.")]
Calling = Annotated[str, typer.Option(help="Our AE title.")]
Deadline = Annotated[float, typer.Option("--deadline", min=0.1, help="Seconds to wait.")]
Tls = Annotated[
    str | None,
    typer.Option(
        "--tls",
        metavar="ca=FILE,…",
        help="Speak TLS: ca=FILE, certificate=FILE, key=FILE, server_name=NAME, commas between; "
        "'system' trusts the authorities of this machine.",
    ),
]


@dataclass(frozen=True)
class Peer:
    """The options by which a DICOM peer is meant, and who asks it."""

    to: Annotated[Address, option_to(11112)]
    called: Called = "BROKER"
    calling: Calling = "PROBE"
    deadline: Deadline = 10.0
    tls: Tls = None

    def scanner(self) -> Scanner:
        """The scanner that we pretend to be."""
        from broker.probe.scanner import Scanner

        return Scanner(self.to, self.called, self.calling, self.deadline, secure=secure(self.tls))


@app.command()
def send(
    files: Annotated[list[Path], typer.Argument(help="HL7 messages; - reads standard input.")],
    to: Hl7Peer,
    deadline: Deadline = 10.0,
    tls: Tls = None,
    as_json: AsJson = False,
) -> None:
    """Send the messages of files over MLLP and print the acknowledgements; 1 if one is refused."""
    from broker.probe import ris

    messages = [message for file in files for message in _messages_of(file)]
    with exit_codes():
        answers = ris.send(to, messages, deadline_s=deadline, secure=secure(tls))
    if as_json:
        typer.echo(json.dumps([asdict(answer) for answer in answers], ensure_ascii=False))
    else:
        for answer in answers:
            typer.echo(f"{answer.code} {answer.control_id} {answer.text}".rstrip())
    if not all(ris.accepted(answer) for answer in answers):
        raise typer.Exit(NEGATIVE)


def _messages_of(file: Path) -> list[bytes]:
    from broker.probe import ris

    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from error
    messages = ris.read_messages(raw)
    if not messages:
        raise typer.BadParameter(f"{file}: no line begins with MSH and a field separator")
    return messages


@app.command()
@spread
def echo(
    peer: Peer,
) -> None:
    """Verify a DICOM peer with C-ECHO."""
    with exit_codes():
        status = peer.scanner().echo()
    _end(status, f"{peer.to} answered C-ECHO", as_json=False)


@mpps.command("start")
@spread
def start(
    accession: str,
    peer: Peer,
    step: Annotated[str, typer.Option(help="Which step, by its ID, where there are several.")] = "",
    as_json: AsJson = False,
) -> None:
    """Begin the scheduled step of an accession number; prints the MPPS UID for `complete`."""
    from broker.probe.scanner import new_uid, worklist_keys

    scanner = peer.scanner()
    uid = new_uid()
    with exit_codes():
        item = _chosen(scanner.find(worklist_keys(accession=accession)), accession, step)
        status = scanner.mpps_start(item, uid=uid, now=now())
    _end(status, uid, as_json=as_json)


@mpps.command("complete")
@spread
def complete(
    uid: str,
    peer: Peer,
    as_json: AsJson = False,
) -> None:
    """End the step of an MPPS UID as COMPLETED."""
    with exit_codes():
        status = peer.scanner().mpps_complete(uid, now=now())
    _end(status, f"{uid} COMPLETED", as_json=as_json)


@mpps.command("discontinue")
@spread
def discontinue(
    uid: str,
    peer: Peer,
    reason: Annotated[str, typer.Option(help="DCM code of CID 9300.")] = "110513",
    as_json: AsJson = False,
) -> None:
    """End the step of an MPPS UID as DISCONTINUED."""
    with exit_codes():
        scanner = peer.scanner()
        status = scanner.mpps_discontinue(uid, now=now(), reason=reason)
    _end(status, f"{uid} DISCONTINUED", as_json=as_json)


@contextmanager
def exit_codes() -> Iterator[None]:
    """69 where the peer is not there or not talking, 1 where it says no."""
    from broker.hl7.refusal import Refusal
    from broker.probe.scanner import QueryFailed

    try:
        yield
    except Unreachable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(os.EX_UNAVAILABLE) from error
    except QueryFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(NEGATIVE) from error
    except Refusal as error:
        typer.echo(f"the answer is no acknowledgement: {error}", err=True)
        raise typer.Exit(NEGATIVE) from error


def secure(said: str | None) -> Secure | None:
    """What --tls says; None without it. Exit 2 where files cannot be used."""
    from broker.probe.secure import read_secure
    from broker.tls.credentials import Unusable

    try:
        return read_secure(said) if said else None
    except (ValueError, Unusable) as problem:
        raise typer.BadParameter(str(problem), param_hint="--tls") from problem


def _chosen(items: list[Attributes], accession: str, step_id: str) -> Attributes:
    from broker.probe.scanner import STEP

    steps = [(item.get(STEP) or [{}])[0] for item in items]
    ids = [str(scheduled.get("ScheduledProcedureStepID", "")) for scheduled in steps]
    by_step = dict(zip(ids, items, strict=True))
    if step_id in by_step:
        return by_step[step_id]
    if len(items) == 1 and not step_id:
        return items[0]
    found = f"steps {', '.join(sorted(by_step))}: say --step" if items else "nothing is scheduled"
    typer.echo(f"accession {accession}: {found}", err=True)
    raise typer.Exit(NEGATIVE)


def print_items(items: list[Attributes], *, as_json: bool) -> None:
    """Print worklist items: a table at a terminal, else a line with tabs each, or JSON."""
    from rich.console import Console

    from broker.probe.narrator import worklist_rows, worklist_table

    if as_json:
        print_json(items)
    elif sys.stdout.isatty():
        Console().print(worklist_table(items))
    else:
        for row in worklist_rows(items):
            typer.echo("\t".join(row))


def _end(status: Status, said: str, *, as_json: bool) -> None:
    """Print what came of it; a status other than Success ends with 1."""
    if as_json:
        typer.echo(json.dumps({"said": said, "status": int(status), "comment": status.comment}))
    else:
        typer.echo(said if not status else f"{said}: status {status}", err=bool(status))
    if status:
        raise typer.Exit(NEGATIVE)


def now() -> datetime:
    """The time on this machine's clock, with its offset."""
    return datetime.now().astimezone()
