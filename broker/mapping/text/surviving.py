"""A mistake of ours while a file is judged: the file does not load, and everything else goes on."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.mapping.text.nodes import Complaint, Complaints


@contextmanager
def surviving(name: str) -> Iterator[None]:
    """Any exception but Complaints becomes a complaint about the file of this name.

    It says the kind of exception and where in the program it was raised, never a value.
    """
    try:
        yield
    except Complaints:
        raise
    except Exception as bug:  # a bug of ours in one file must not end a running broker
        frame = traceback.extract_tb(bug.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        fact = f"cannot be judged: {type(bug).__name__} at {place} of the program"
        hint = "a mistake of the program: please report it with this file"
        raise Complaints([Complaint(name, 0, 0, fact, hint)]) from bug
