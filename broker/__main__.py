"""The program `broker`, also as `python -m broker`."""

import sys

from broker.cli import run_command


def main() -> None:
    """Run one command and exit with its code (DESIGN: 0, 1, 2, 69, 75, 78)."""
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
