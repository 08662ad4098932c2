"""python-hl7's asyncio server as it comes: parses, acknowledges, stores nothing. Run as a process.

Prints its port; python-hl7 is a development dependency, so this file is run and never imported.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server


async def answer(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
    """Acknowledge each message of one connection until it ends."""
    with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            message = await reader.readmessage()
            writer.writemessage(message.create_ack())
            await writer.drain()


async def serve() -> None:
    """Serve on a free port until the process is ended."""
    server = await start_hl7_server(answer, "127.0.0.1", 0, encoding="utf-8")
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
