"""What an orders door holds, and gives back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from broker.mapping.loading import load
from broker.supervising.starting import GIVES_MEMORY_BACK

LOADED = """
import sys
sys.argv = ["broker", "door", "nonsense"]
from broker.__main__ import main
try:
    main()
except SystemExit as ended:
    assert ended.code == 2
import broker.orders.door
print(*(name for name, module in sys.modules.items() if module))
"""
GROWN = """
import os
from broker import memory
kept, large = [], []
for n in range(40_000):
    large.append(bytes(1_000))
    if n % 100 == 0:
        kept.append(bytes(1_000))
full = memory._resident()
del large
memory._give_back()
print((full - memory._resident()) // 2**20)
"""


def printed(program: str) -> list[str]:
    command = [sys.executable, "-c", program]
    environ = {**os.environ, **GIVES_MEMORY_BACK}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environ
    ).stdout.split()


def test_a_door_carries_nothing_for_terminals_downloads_and_other_verbs() -> None:
    loaded = {*printed(LOADED)}
    assert "broker.orders.door" in loaded
    assert not loaded & {"rich", "requests", "broker.cli.bench", "broker.cli.program"}


def test_empty_pages_between_used_ones_go_back_to_the_system() -> None:
    assert int(printed(GROWN)[0]) >= 20


def test_mappings_for_messages_are_without_what_tools_look_at() -> None:
    bundle = load(Path("mappings"), examples=False)
    lean = bundle.for_messages()
    assert (lean.version, lean.inbound, lean.loaded) == (bundle.version, bundle.inbound, ())
