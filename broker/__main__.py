"""The program `broker`, also as `python -m broker`."""

import gc
import os
import sys
from contextlib import suppress
from typing import Final

LASTING: Final = ("run", "door", "forkserver")
HELP: Final = {"-h", "--help"}
NEEDLESS: Final = ("requests",)
NOT_FOR_LASTING: Final = ("rich",)
"""What libraries of ours import if it is there, for downloads and terminals: 10 MB of a process."""


def main() -> None:
    """Run one command and exit with its code (0, 1, 2, 69, 75, 78: README)."""
    lasting = sys.argv[1:2] != [] and sys.argv[1] in LASTING and not HELP & {*sys.argv}
    without = NEEDLESS + NOT_FOR_LASTING if lasting else NEEDLESS
    # What is imported stays: to look for garbage meanwhile takes a sixth of a start.
    if lasting:
        gc.disable()  # till `broker.cli.run` has all that it needs
    else:
        gc.set_threshold(100_000, 20, 20)
    sys.modules.update(dict.fromkeys(without))  # type: ignore[arg-type] # "not there"

    from broker.cli import run_command

    code = run_command(sys.argv[1:], lasting=lasting)
    if lasting and sys.argv[1] == "run":
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            # All is closed; to take every object apart would take a tenth of a second.
            os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
