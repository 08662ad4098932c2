"""The command line: one thin file per group of verbs; what a verb needs is imported as it runs."""

from broker.cli.program import run_command

__all__ = ["run_command"]
