"""A pretend scanner on pynetdicom's SCU: asks for its list, reports what it did, never hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket

from broker.probe.address import Address, Unreachable
from broker.probe.datasets import Attributes, to_dataset, to_values
from broker.probe.questions import (
    RETURN_KEYS,
    STEP,
    discontinued_step,
    ended_step,
    started_step,
    worklist_keys,
)
from broker.probe.secure import Secure
from broker.probe.stilled import stilled
from broker.probe.styles import MPPS, VERIFICATION, Manner

__all__ = [
    "MPPS",
    "RETURN_KEYS",
    "STEP",
    "SUCCESS",
    "VERIFICATION",
    "WORKLIST",
    "Attributes",
    "QueryFailed",
    "Scanner",
    "Status",
    "new_uid",
    "to_dataset",
    "to_values",
    "worklist_keys",
]

WORKLIST = UID("1.2.840.10008.5.1.4.31")

SUCCESS = 0x0000
_PENDING = {0xFF00, 0xFF01}
_CANCELLED = 0xFE00


class Status(int):
    """A DIMSE status that also carries what the peer said about it; prints as 0x0110."""

    comment: str
    error_id: int | None

    def __new__(cls, value: int, comment: str = "", error_id: int | None = None) -> Status:
        self = super().__new__(cls, value)
        self.comment = comment
        self.error_id = error_id
        return self

    def __str__(self) -> str:
        return f"0x{int(self):04X}" + (f" ({self.comment})" if self.comment else "")


class QueryFailed(Exception):
    """The peer ended a C-FIND with a failure status."""

    def __init__(self, peer: Address, status: Status) -> None:
        super().__init__(f"{peer}: C-FIND ended with status {status}")
        self.status = status


@dataclass(frozen=True)
class Scanner:
    """A scanner called `calling` that asks the AE `called`; one association per question.

    Every wait is bounded by `deadline_s`. Raises Unreachable when nobody listens, the association
    is rejected or aborted, or no answer comes in time.
    """

    to: Address
    called: str = "BROKER"
    calling: str = "PROBE"
    deadline_s: float = 10.0
    manner: Manner = field(default_factory=Manner)
    secure: Secure | None = None

    def echo(self) -> Status:
        """C-ECHO; the status of the answer."""
        with self._association(VERIFICATION) as association:
            return self._status(association.send_c_echo())

    def find(self, keys: Attributes) -> list[Attributes]:
        """Ask the worklist; the answers as plain nested values by DICOM keyword, in their order.

        It cancels where its manner says so, and keeps what it has got. Raises QueryFailed on a
        failure status.
        """
        stops_at, asked = self.manner.stops_at, to_dataset(keys)
        if self.manner.private:
            block = asked.private_block(0x0029, "BROKER PROBE", create=True)
            block.add_new(0x10, "LO", "ROOM 3")
        message_id: Any = self.manner.message_id  # None is more than pynetdicom says it takes
        with self._association(WORKLIST) as association:
            # Read to the end before anything is judged: an answer left unread blocks the release.
            answers = []
            for answer in association.send_c_find(asked, WORKLIST, message_id):
                answers.append(answer)
                if len(answers) == stops_at:
                    association.send_c_cancel(message_id, query_model=WORKLIST)
        items: list[Attributes] = []
        for response, identifier in answers:
            status = self._status(response)
            if status in _PENDING and identifier is not None:
                items.append(to_values(identifier))
            elif status != SUCCESS and not (stops_at and status == _CANCELLED):
                raise QueryFailed(self.to, status)
        return items[:stops_at]

    def mpps_start(self, item: Attributes, *, uid: str, now: datetime) -> Status:
        """N-CREATE an IN PROGRESS step for one worklist item; `now` is the scanner's local time."""
        return self.mpps_create(uid, started_step(item, station_ae=self.calling, now=now))

    def mpps_complete(self, uid: str, *, now: datetime) -> Status:
        """N-SET to COMPLETED with the values that the final state needs."""
        return self.mpps_set(uid, ended_step("COMPLETED", uid=uid, now=now))

    def mpps_discontinue(self, uid: str, *, now: datetime, reason: str = "110513") -> Status:
        """N-SET to DISCONTINUED; `reason` is a DCM code of CID 9300 (110513 is 'unspecified')."""
        ended = discontinued_step(uid=uid, now=now, reason=reason)
        return self.mpps_set(uid, ended)

    def mpps_create(self, uid: str | None, attributes: Attributes) -> Status:
        """N-CREATE with any attributes."""
        with self._association(MPPS) as association:
            response, _ = association.send_n_create(to_dataset(attributes), MPPS, uid)
            return self._status(response)

    def mpps_set(self, uid: str, attributes: Attributes) -> Status:
        """N-SET with any attributes."""
        with self._association(MPPS) as association:
            response, _ = association.send_n_set(to_dataset(attributes), MPPS, uid)
            return self._status(response)

    @contextmanager
    def _association(self, sop_class: str) -> Iterator[Association]:
        ae = _Application(ae_title=self.calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.deadline_s
        ae.connection_timeout = self.deadline_s
        ae.maximum_pdu_size = self.manner.max_pdu
        for each in (sop_class, *self.manner.beside):
            ae.add_requested_context(each, list(self.manner.syntaxes))
        connected = threading.Event()
        try:
            association = ae.associate(
                self.to.host,
                self.to.port,
                ae_title=self.called,
                evt_handlers=[(evt.EVT_CONN_OPEN, _opened, [connected])],
                tls_args=self.secure.of(self.to) if self.secure else None,
            )
        except socket.gaierror as unknown:  # pynetdicom looks names up before it connects
            fact = f"{unknown.strerror or unknown}".lower()
            raise self._unreachable(f"cannot connect ({fact})") from unknown
        try:
            if not association.is_established:
                raise self._refused(association, connected=connected.is_set())
            if not any(c.abstract_syntax == sop_class for c in association.accepted_contexts):
                raise self._unreachable("accepts no presentation context of ours")
            yield stilled(association)
        finally:
            _leave(association)
            ae.close()

    def _refused(self, association: Association, *, connected: bool) -> Unreachable:
        if answer := rejection(association):
            return self._unreachable(f"rejected the association ({answer.reason_str})")
        if self.secure is not None and (problem := self.secure.trial(self.to, self.deadline_s)):
            return problem
        if connected:
            return self._unreachable("took the connection but did not accept the association")
        return self._unreachable("cannot connect")

    def _status(self, response: Dataset) -> Status:
        if "Status" not in response:
            raise self._unreachable(f"no answer within {self.deadline_s:g} s, or it aborted")
        return Status(
            int(response.Status),
            str(response.get("ErrorComment", "") or ""),
            response.get("ErrorID", None),
        )

    def _unreachable(self, fact: str) -> Unreachable:
        titles = f"called '{self.called}', calling '{self.calling}'"
        return Unreachable(self.to, fact, f"check host, port and AE titles ({titles})")


class _Application(AE):
    """pynetdicom forgets to close the socket of a refused connection; this one remembers."""

    _sockets: tuple[tuple[AssociationSocket, socket.socket | None], ...] = ()

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        made = super()._create_socket(*arguments)
        self._sockets += ((made, made.socket),)
        return made

    def close(self) -> None:
        for made, plain in self._sockets:
            for opened in (made.socket, plain):  # TLS puts another one in its place
                if opened is not None:
                    opened.close()


def rejection(association: Association) -> A_ASSOCIATE | None:
    """The A-ASSOCIATE-RJ that ended an association, None when it ended otherwise (PS3.8 §9.3.4).

    pynetdicom takes one that comes before it looks for a lost connection, and leaves it unread.
    """
    read = association.acceptor.primitive if association.is_rejected else None
    answer = read or association.dul.peek_next_pdu()
    return answer if isinstance(answer, A_ASSOCIATE) and answer.result else None


def _opened(event: evt.Event, connected: threading.Event) -> None:
    connected.set()
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        # A request is two writes; without this the second waits for the peer's delayed ACK.
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave(association: Association) -> None:
    if association.is_established:
        association.release()
    if association.is_alive():
        association.join(timeout=5.0)


def new_uid() -> str:
    """A fresh SOP Instance UID."""
    return str(generate_uid())
