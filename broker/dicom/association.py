"""The acceptor's part of the DICOM upper layer: PS3.8 §9.2 as a table, bytes in and events out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.dicom import pdu
from broker.dicom.dimse import Answers, Assembler, Cancel, DimseRequest, Response, encode_response
from broker.dicom.negotiation import (
    Agreement,
    AssociationRequest,
    Negotiated,
    Rejection,
    negotiated,
)
from broker.dicom.pdu import MalformedPdu, Pdu, PduReader, PduType


class State(StrEnum):
    """The states of PS3.8 Table 9-1 that an acceptor rests in.

    States 3, 8 and 12 await a decision of the local user; ours is made at once, so they only pass.
    """

    CLOSED = "Sta1"
    AWAITING_ASSOCIATE = "Sta2"
    ESTABLISHED = "Sta6"
    AWAITING_RELEASE_REPLY = "Sta7"
    COLLIDED = "Sta10"
    AWAITING_CLOSE = "Sta13"


class Action(StrEnum):
    """What an arriving PDU makes us do: the actions of PS3.8 Tables 9-6 to 9-9."""

    JUDGE = "AE-6"
    TAKE_DATA = "DT-2"
    REPLY_TO_RELEASE = "AR-2, AR-4"
    RELEASED = "AR-3"
    DROP_LATE_DATA = "AR-6"
    COLLIDE = "AR-8"
    REPLY_AFTER_COLLISION = "AR-10, AR-4"
    REFUSE = "AA-1"
    CLOSE = "AA-2"
    ABORTED = "AA-3"
    IGNORE = "AA-6"
    ABORT_AGAIN = "AA-7"
    ABORT = "AA-8"


# PS3.8 Table 9-10, read by column: the states of an acceptor; the row INVALID is an unrecognised
# or invalid PDU. A test holds that every pair of state and row is here.
INVALID = None
TRANSITIONS: Mapping[State, Mapping[PduType | None, Action]] = {
    State.AWAITING_ASSOCIATE: {
        PduType.ASSOCIATE_RQ: Action.JUDGE,
        PduType.ASSOCIATE_AC: Action.REFUSE,
        PduType.ASSOCIATE_RJ: Action.REFUSE,
        PduType.P_DATA: Action.REFUSE,
        PduType.RELEASE_RQ: Action.REFUSE,
        PduType.RELEASE_RP: Action.REFUSE,
        PduType.ABORT: Action.CLOSE,
        INVALID: Action.REFUSE,
    },
    State.ESTABLISHED: {
        PduType.ASSOCIATE_RQ: Action.ABORT,
        PduType.ASSOCIATE_AC: Action.ABORT,
        PduType.ASSOCIATE_RJ: Action.ABORT,
        PduType.P_DATA: Action.TAKE_DATA,
        PduType.RELEASE_RQ: Action.REPLY_TO_RELEASE,
        PduType.RELEASE_RP: Action.ABORT,
        PduType.ABORT: Action.ABORTED,
        INVALID: Action.ABORT,
    },
    State.AWAITING_RELEASE_REPLY: {
        PduType.ASSOCIATE_RQ: Action.ABORT,
        PduType.ASSOCIATE_AC: Action.ABORT,
        PduType.ASSOCIATE_RJ: Action.ABORT,
        PduType.P_DATA: Action.DROP_LATE_DATA,
        PduType.RELEASE_RQ: Action.COLLIDE,
        PduType.RELEASE_RP: Action.RELEASED,
        PduType.ABORT: Action.ABORTED,
        INVALID: Action.ABORT,
    },
    State.COLLIDED: {
        PduType.ASSOCIATE_RQ: Action.ABORT,
        PduType.ASSOCIATE_AC: Action.ABORT,
        PduType.ASSOCIATE_RJ: Action.ABORT,
        PduType.P_DATA: Action.ABORT,
        PduType.RELEASE_RQ: Action.ABORT,
        PduType.RELEASE_RP: Action.REPLY_AFTER_COLLISION,
        PduType.ABORT: Action.ABORTED,
        INVALID: Action.ABORT,
    },
    State.AWAITING_CLOSE: {
        PduType.ASSOCIATE_RQ: Action.ABORT_AGAIN,
        PduType.ASSOCIATE_AC: Action.IGNORE,
        PduType.ASSOCIATE_RJ: Action.IGNORE,
        PduType.P_DATA: Action.IGNORE,
        PduType.RELEASE_RQ: Action.IGNORE,
        PduType.RELEASE_RP: Action.IGNORE,
        PduType.ABORT: Action.CLOSE,
        INVALID: Action.ABORT_AGAIN,
    },
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The association stands; `reply` is the A-ASSOCIATE-AC to send."""

    request: AssociationRequest
    agreement: Agreement
    reply: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The association was refused; `reply` is the A-ASSOCIATE-RJ to send."""

    request: AssociationRequest
    rejection: Rejection
    reply: bytes


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A whole DIMSE request has come and waits for its responses."""

    request: DimseRequest
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The peer wants no more responses to the request with this Message ID."""

    message_id: int
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Released:
    """The association ended in order; `reply` is the A-RELEASE-RP where one is due."""

    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer aborted: source and reason of its A-ABORT (PS3.8 §9.3.8)."""

    source: int
    reason: int
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class ProtocolFault:
    """The peer broke the protocol; `reply` is the A-ABORT to send, `fact` the words for the log."""

    fact: str
    reply: bytes


Event = Accepted | Rejected | RequestReceived | CancelReceived | Released | Aborted | ProtocolFault


class NotEstablished(Exception):
    """Something was to be sent on an association that no longer, or not yet, stands."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one association may hold: bytes of a data set by request kind, '' being the default."""

    dataset: Mapping[str, int] = field(
        default_factory=lambda: {
            "C-FIND": 256 * 1024,
            "N-CREATE": 16 * 1024 * 1024,
            "N-SET": 16 * 1024 * 1024,
            "": 64 * 1024,
        }
    )


NOTHING_PENDING: tuple[DimseRequest | None, int, bytes] = (None, 0, b"")


class Acceptor:
    """One association as its acceptor sees it: feed bytes, act on events, send their replies."""

    def __init__(
        self,
        judge: Callable[[AssociationRequest], Rejection | None],
        negotiate: Callable[[bytes], Negotiated] = negotiated,
        sizes: Sizes | None = None,
    ) -> None:
        self.state = State.AWAITING_ASSOCIATE
        self._judge_request = judge
        self._negotiate = negotiate
        self._sizes = sizes or Sizes()
        self._reader = PduReader()
        self._deaf = False
        self._agreement: Agreement | None = None
        self._assembler: Assembler | None = None
        self._pending = NOTHING_PENDING

    @property
    def established(self) -> bool:
        """Responses can be sent."""
        return self.state is State.ESTABLISHED

    @property
    def unfinished(self) -> bool:
        """The peer has begun a PDU or a message and not ended it."""
        in_message = self._assembler is not None and self._assembler.unfinished
        return self._reader.unfinished or in_message

    @property
    def held(self) -> int:
        """Bytes of the PDU and of the message that are not whole yet."""
        return self._reader.held + (self._assembler.held if self._assembler is not None else 0)

    def receive(self, data: bytes) -> list[Event]:
        """Take what the socket gave; return what it means, in order, replies included."""
        events: list[Event] = []
        if not self._deaf:
            self._reader.feed(data)
        while not self._deaf and self.state is not State.CLOSED:
            try:
                arrived = self._reader.next()
                if arrived is None:
                    break
                events += self._act(TRANSITIONS[self.state][arrived.type], arrived)
            except MalformedPdu as fault:
                events += self._fault(fault)
        return events

    def respond(self, request: DimseRequest, response: Response) -> bytes:
        """Return the bytes of one response, in fragments that the peer takes."""
        if self._agreement is None or not self.established:
            raise NotEstablished
        command = self._command(request, response)
        max_pdu = self._agreement.max_pdu
        return pdu.data_pdus(request.context_id, command, response.dataset, max_pdu)

    def respond_all(self, request: DimseRequest, answers: Answers) -> bytes:
        """Return the bytes of several pending responses, in fragments that the peer takes."""
        if self._agreement is None or not self.established:
            raise NotEstablished
        command = self._command(request, Response(answers.status, b""))
        max_pdu = self._agreement.max_pdu
        return pdu.data_pdus_of_all(request.context_id, command, answers.datasets, max_pdu)

    def _command(self, request: DimseRequest, response: Response) -> bytes:
        """Return the command set; those of a list's pending responses are all the same."""
        if not response.pending:
            self._pending = NOTHING_PENDING  # an idle association must not keep what it was asked
            return encode_response(request, response)
        asked, status, command = self._pending
        if asked is not request or status != response.status:
            command = encode_response(request, response)
            self._pending = (request, response.status, command)
        return command

    def release(self) -> bytes:
        """Ask the peer to end the association in order (AR-1)."""
        if not self.established:
            raise NotEstablished
        self.state = State.AWAITING_RELEASE_REPLY
        return pdu.release_request()

    def abort(self) -> bytes:
        """End the association at once (AA-1); the A-ABORT, or nothing where none is due."""
        if self.state in (State.AWAITING_ASSOCIATE, State.CLOSED, State.AWAITING_CLOSE):
            self._end(self.state, deaf=True)
            return b""
        self._end(State.AWAITING_CLOSE, deaf=True)
        return pdu.abort(pdu.USER)

    def lost(self) -> None:
        """The transport is gone."""
        self._end(State.CLOSED, deaf=True)

    def _act(self, action: Action, arrived: Pdu) -> list[Event]:
        match action:
            case Action.JUDGE:
                return [self._judge(arrived)]
            case Action.TAKE_DATA:
                return self._take(arrived)
            case Action.REPLY_TO_RELEASE | Action.REPLY_AFTER_COLLISION:
                self._end(State.AWAITING_CLOSE)
                return [Released(pdu.release_reply())]
            case Action.RELEASED:
                self._end(State.CLOSED)
                return [Released()]
            case Action.COLLIDE:
                # As acceptor we await the requestor's reply before we send ours (PS3.8 §9.2.2).
                self.state = State.COLLIDED
                return []
            case Action.ABORTED | Action.CLOSE:
                self._end(State.CLOSED)
                source, reason = (arrived.body + bytes(4))[2:4]
                return [Aborted(source, reason)]
            case Action.REFUSE | Action.ABORT | Action.ABORT_AGAIN:
                raise MalformedPdu(f"{arrived.type.name} in {self.state}", pdu.UNEXPECTED_PDU)
            case Action.IGNORE | Action.DROP_LATE_DATA:
                return []

    def _judge(self, arrived: Pdu) -> Event:
        request, agreement = self._negotiate(arrived.body)
        rejection = self._judge_request(request)
        if rejection is not None:
            self._end(State.AWAITING_CLOSE)
            return Rejected(request, rejection, rejection.encode())
        self._agreement = agreement
        self._assembler = Assembler(agreement.contexts, self._sizes.dataset)
        self.state = State.ESTABLISHED
        return Accepted(request, agreement, agreement.answer)

    def _take(self, arrived: Pdu) -> list[Event]:
        events: list[Event] = []
        if self._assembler is None:
            return events
        for fragment in pdu.fragments(arrived.body):
            message = self._assembler.receive(fragment)
            if isinstance(message, Cancel):
                events.append(CancelReceived(message.message_id))
            elif message is not None:
                events.append(RequestReceived(message))
        return events

    def _fault(self, fault: MalformedPdu) -> list[Event]:
        """AA-1, AA-7 or AA-8: abort, and read no more, for the framing itself may be lost.

        Before there is an association the abort is the service user's, which has no reason.
        """
        source = pdu.USER if self.state is State.AWAITING_ASSOCIATE else pdu.PROVIDER
        self._end(State.AWAITING_CLOSE, deaf=True)
        return [ProtocolFault(fault.fact, pdu.abort(source, fault.reason))]

    def _end(self, state: State, *, deaf: bool = False) -> None:
        self.state = state
        self._deaf = self._deaf or deaf or state is State.CLOSED
        self._assembler, self._pending = None, NOTHING_PENDING
        if self._deaf:
            self._reader.clear()
