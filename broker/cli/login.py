"""Who gives a command."""

from __future__ import annotations

import getpass


def who() -> str:
    """Name who gives this command, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "nameless"
