"""The MLLP load client: `python -m broker.bench.mllp SECONDS HOST PORT CONNECTIONS < FRAMES`.

Raw sockets in a process of its own; each connection sends its next message when it has the answer.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.bench.timings import Timings, print_timings, run_client

END = b"\x1c\r"
ACCEPTED = b"\rMSA|AA|"
PIECE = 65_536
PATIENCE_S = 10.0


@dataclass
class Conversation:
    """One connection and the answer that it waits for."""

    peer: socket.socket
    sent_s: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    def send(self, frame: bytes) -> None:
        """Send the next message; the clock of its answer starts."""
        self.answer.clear()
        self.sent_s = time.perf_counter()
        self.peer.sendall(frame)

    def answered(self) -> bool:
        """Read what came; whether the answer is whole. Raises ConnectionError at its end."""
        piece = self.peer.recv(PIECE)
        if not piece:
            raise ConnectionError("the server closed the connection instead of answering")
        self.answer += piece
        return self.answer.endswith(END)

    def close(self) -> None:
        """Close the connection."""
        self.peer.close()


def send_orders(
    address: tuple[str, int], frames: list[bytes], *, connections: int, seconds: float
) -> Timings:
    """Send the frames over `connections`, for at most `seconds`, from a process of its own."""
    host, port = address
    return run_client(
        "broker.bench.mllp", host, port, connections, given=b"".join(frames), seconds=seconds
    )


def drive(conversations: list[Conversation], frames: Iterator[bytes], seconds: float) -> Timings:
    """Deal out the frames until there are none or the time is over; every answer is awaited."""
    latencies, refused, began = [], 0, time.perf_counter()
    now = began
    with selectors.DefaultSelector() as selector:
        for conversation, frame in zip(conversations, frames, strict=False):
            selector.register(conversation.peer, selectors.EVENT_READ, conversation)
            conversation.send(frame)
        while selector.get_map() and (left := began + seconds - now) > 0:
            for key, _ in selector.select(left):
                conversation = key.data
                if not conversation.answered():
                    continue
                latencies.append(time.perf_counter() - conversation.sent_s)
                refused += ACCEPTED not in conversation.answer
                if (following := next(frames, None)) is None:
                    selector.unregister(key.fileobj)
                else:
                    conversation.send(following)
            now = time.perf_counter()
    return Timings(latencies, now - began, refused)


def main() -> None:
    """Be the client process."""
    seconds, host, port, connections = sys.argv[1:]
    frames = re.findall(rb"\x0b.*?\x1c\r", sys.stdin.buffer.read(), re.DOTALL)
    peers = [
        socket.create_connection((host, int(port)), PATIENCE_S) for _ in range(int(connections))
    ]
    for peer in peers:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # zip() takes a conversation before it takes a frame, so no frame is lost.
    print_timings(drive([Conversation(peer) for peer in peers], iter(frames), float(seconds)))


if __name__ == "__main__":
    main()
