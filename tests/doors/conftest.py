"""One whole broker for the scenarios that do no lasting harm, reporting to two pretend RISs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from broker.probe.address import Address
from broker.probe.ris import Answer, Sink
from tests.doors.actors import CONFIG, Broker


@pytest.fixture(scope="session")
def sinks() -> Iterator[tuple[Sink, Sink]]:
    """The RISs `north` and `south`."""
    north, south = Sink(), Sink()
    north.start()
    south.start()
    yield north, south
    north.stop()
    south.stop()


@pytest.fixture(scope="session")
def whole(sinks: tuple[Sink, Sink]) -> Iterator[Broker]:
    told = ", ".join(
        f"{{name: {name}, to: '{sink.address}', ack_timeout_s: 0.7}}"
        for name, sink in zip(("north", "south"), sinks, strict=True)
    )
    with Broker(f"{CONFIG}ris: [{told}]\n").started() as broker:
        yield broker


@pytest.fixture
def broker(whole: Broker) -> Broker:
    """The shared broker; every test brings orders of its own."""
    return whole


@pytest.fixture
def ris(sinks: tuple[Sink, Sink]) -> Iterator[Sink]:
    """The RIS `north`, which a test may stop or make silent."""
    north = sinks[0]
    address = north.address
    yield north
    north.answer = Answer.AA
    _listen_again(north, address)


@pytest.fixture
def other_ris(sinks: tuple[Sink, Sink]) -> Sink:
    """The RIS `south`."""
    return sinks[1]


@pytest.fixture
def new_broker() -> Iterator[Callable[..., Broker]]:
    """A function that makes a broker of this test's own; it is ended whatever happens."""
    made: list[Broker] = []

    def make(config: str = CONFIG) -> Broker:
        made.append(Broker(config))
        return made[-1]

    yield make
    for broker in made:
        broker.end()


def _listen_again(sink: Sink, address: Address) -> None:
    try:
        sink.address  # noqa: B018 - raises when it does not listen
    except RuntimeError:
        sink.start(*address)
