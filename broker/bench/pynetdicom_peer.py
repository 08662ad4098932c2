"""pynetdicom's own server, matching nothing: `python -m broker.bench.pynetdicom_peer`.

It prints its port, and gives everyone the same ANSWERS entries, made beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from pydicom import Dataset
from pynetdicom import AE, evt

from broker.bench.dicom import ANSWERS, CALLED, WORKLIST
from broker.bench.entries import entries, worklist_item

HOST = "127.0.0.1"


def main() -> None:
    """Serve until the process is ended."""
    items = [worklist_item(entry) for entry in entries(1, ANSWERS, datetime.now(UTC).date())]

    def found(_event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for item in items:
            yield 0xFF00, item

    ae = AE(CALLED)
    ae.add_supported_context(WORKLIST)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_FIND, found)])
    assert server is not None  # noqa: S101 not blocking, it is a server
    print(server.server_address[1], flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
