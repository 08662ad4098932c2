"""`make audit`: a database is asked about the lock; one that is not there is a failure."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP_AUDIT = Path(sys.executable).parent / "pip-audit"
LOCK = f"six==1.16.0 --hash=sha256:{'0' * 64}\n"


class Database(BaseHTTPRequestHandler):
    """Answers as OSV does; `vulnerable` is whether it has heard of anything."""

    vulnerable = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        affected = {
            "package": {"name": "six", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.17"}]}],
        }
        known = {"id": "TEST-1", "summary": "a test", "affected": [affected], "aliases": []}
        answer = json.dumps({"vulns": [known]} if type(self).vulnerable else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Database) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join(5)


def audited(folder: Path, url: str) -> tuple[int, str]:
    lock = folder / "requirements.lock"
    lock.write_text(LOCK)
    told = subprocess.run(
        [
            *(
                "sh",
                str(ROOT / "tests/dependencies.sh"),
                str(Path(sys.executable).parent / "pip-audit"),
            ),
            *(str(lock), "-s", "osv", "--osv-url", url, "--timeout", "2"),
            *("--cache-dir", str(folder / "cache")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return told.returncode, told.stdout + told.stderr


def test_a_lock_of_which_nothing_is_known_is_clean(tmp_path: Path, database: str) -> None:
    code, said = audited(tmp_path, database)
    assert (code, "No known vulnerabilities found" in said) == (0, True), said


def test_a_vulnerable_dependency_is_named_with_what_to_do(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "vulnerable", True)
    code, said = audited(tmp_path, database)
    assert code == 1
    assert "TEST-1" in said
    assert "raise it in pyproject.toml, then make lock" in said


def test_a_database_that_is_not_there_is_a_failure_and_says_so(tmp_path: Path) -> None:
    code, said = audited(tmp_path, "http://127.0.0.1:9/v1/query")
    assert code == 1
    assert "NOT audited" in said
    assert "make audit ARGS=" in said


def test_make_audits_what_is_installed() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pip-audit requirements.lock" in told.stdout
