"""What a collector reads: JSON, whoever writes the line."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
import structlog
from broker.cli import logs
from broker.settings import Log
logs.configure(Log(format="json"), door="console")
logging.getLogger("uvicorn.error").warning("a %s of a library", "line")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("asyncio").exception("it failed")
    structlog.get_logger("orders").exception("message", peer=3, door="orders")
structlog.get_logger("orders").debug("not at this level")
structlog.get_logger("orders").warning("message", stack_info=True)
"""


def test_lines_of_libraries_are_json_as_ours() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    ).stderr
    first, second, third, fourth = map(json.loads, said.splitlines())
    assert (first["event"], first["logger"]) == ("a line of a library", "uvicorn.error")
    assert (first["door"], first["level"]) == ("console", "warning")
    assert "ZeroDivisionError" in second["exception"]
    assert third["timestamp"].endswith("Z")
    assert (third["event"], third["level"], third["peer"]) == ("message", "error", 3)
    assert third["door"] == "orders"  # what a line says itself is not overwritten
    assert "ZeroDivisionError" in third["exception"]
    assert (fourth["level"], fourth["door"]) == ("warning", "console")
    assert "stack" in fourth
