"""Killing parts of a broker as a machine does, and starting again what nobody watches."""

from __future__ import annotations

import signal

from tests.doors.actors import Broker

SUPERVISOR = "supervisor"


def kill(broker: Broker, victim: str) -> None:
    """kill -9 of one of them; whoever nobody watches is started again."""
    if victim == SUPERVISOR and broker.process is not None:
        broker.process.send_signal(signal.SIGKILL)
        broker.process.wait()
    elif broker.children(victim):
        broker.kill(victim)
    kept(broker)


def kept(broker: Broker) -> bool:
    """Starts, as systemd would, a broker that was killed or gave up after many crashes of Redis."""
    if not broker.runs:
        broker.start()
    return True
