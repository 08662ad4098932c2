"""The process in which doors begin: it has everything loaded, checks the mappings, and forks.

Forking is clean here because nothing goes on here: one thread, no event loop, no connection. A door
that begins so, also one that begins again, is open in a twentieth of the time that a new Python
takes to load the same.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

from broker import mishaps
from broker.mapping.text.nodes import Complaints
from broker.settings import Settings
from broker.store.bundles import SHORT
from broker.store.call import read_scripts
from broker.store.executors import Store, StoreUnavailable

LONGEST_PIECE = 1 << 16
Begin = Callable[[str, int], int]
"""Be a door, by role and instance, to its end; the exit code."""


def serve(control: socket.socket, roles: Iterable[str], begin: Begin) -> None:
    """Do what the supervisor asks over `control`, and tell it of every end, until it hangs up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the supervisor ends the doors, and then us
    woken, wake = _woken_by_ends()
    gc.disable()  # what is loaded stays, and a collection would copy the pages that doors share
    for role in roles:
        import_module(f"broker.{role}.door")
    read_scripts()
    gc.freeze()
    asked = control.fileno()
    while True:
        readable, _, _ = select.select([asked, woken], [], [])
        if woken in readable:
            os.read(woken, 1 << 12)
            _tell_ends(control)
        if asked in readable:
            data, descriptors, *_ = socket.recv_fds(control, LONGEST_PIECE, 1)
            while data and not data.endswith(b"\n"):
                data += control.recv(LONGEST_PIECE)
            if not data:
                return
            _tell(
                control,
                _answer(json.loads(data), descriptors, begin, (asked, woken, wake)),
            )


def _answer(
    request: Mapping[str, Any], descriptors: list[int], begin: Begin, own: Iterable[int]
) -> dict[str, Any]:
    if request["do"] == "deploy":
        os.environ.update(request["environ"])
        return _deployed()
    pid = os.fork()
    if not pid:
        _be(begin, request, descriptors[0], own)
    os.close(descriptors[0])
    return {"pid": pid}


def _deployed() -> dict[str, Any]:
    """The folder in force, and here the mappings for every door; or why not."""
    from broker.rollout.current import prepare  # a door without mappings does without

    config = os.environ.get("BROKER_CONFIG")
    settings = Settings.load(Path(config) if config else None, os.environ)
    store = Store(settings.redis.full_url)
    try:
        deployed = prepare(store, settings, at=time.time())
    except Complaints as wrong:
        return {"code": os.EX_CONFIG, "why": str(wrong)}
    except StoreUnavailable as away:
        return {"code": os.EX_TEMPFAIL, "why": f"redis: {away}"}
    finally:
        store.close()
        gc.collect()
        gc.freeze()
    active = deployed.active
    return {
        "code": os.EX_OK,
        "changed": deployed.changed,
        "version": active.short,
        "by": active.by,
        "folder": deployed.checked[:SHORT],
        "mappings": deployed.mappings,
    }


def _be(begin: Begin, request: Mapping[str, Any], ready: int, not_ours: Iterable[int]) -> NoReturn:
    """Become the door that was asked for, as if it were a program of its own."""
    code = os.EX_SOFTWARE
    try:
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        for each in not_ours:
            os.close(each)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()  # Ctrl-C is for the supervisor: doors first, Redis last
        own = {"BROKER_SUPERVISOR": str(parent), "BROKER_READY_FD": str(ready)}
        os.environ.update(request["environ"] | own)
        role, instance = request["role"], request["instance"]
        setproctitle(f"{sys.executable} -m broker door {role} --instance {instance}")
        gc.enable()
        code = begin(role, instance)
    except BaseException as bug:
        print(mishaps.told(bug), file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _woken_by_ends() -> tuple[int, int]:
    """A pipe whose first end can be read when a child has ended."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken, wake


def _tell_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(control: socket.socket, answer: Mapping[str, Any]) -> None:
    control.sendall(json.dumps(answer).encode() + b"\n")
