"""Where log lines go: stderr, as text for a terminal and as JSON for a collector."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from broker import mishaps

if TYPE_CHECKING:
    from broker.settings import Log


_ENCODER = json.JSONEncoder(default=repr)


def _as_json(event: object) -> str:
    """json.dumps makes an encoder for each line: 5 µs of 12."""
    return _ENCODER.encode(event)


_TEXT: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.dev.ConsoleRenderer(exception_formatter=mishaps.write),
]


def _json_lines(context: dict[str, object]) -> structlog.typing.Processor:
    """One step for what six of structlog's do: every message has a line, and they take half of it.

    `context` is on every line.
    """
    stack = structlog.processors.StackInfoRenderer()

    def line(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        if "exc_info" in event or "stack_info" in event:
            event = stack(logger, method, event)
            if problem := _raised(event.pop("exc_info", None)):
                event["exception"] = mishaps.told(problem)
        for name, value in context.items():
            event.setdefault(name, value)
        event["level"] = "error" if method == "exception" else method
        event["timestamp"] = datetime.now(UTC).isoformat()[:-6] + "Z"
        return _as_json(event)

    return line


def _raised(said: object) -> BaseException | None:
    """The error that a line is about: given, or being handled."""
    if isinstance(said, BaseException):
        return said
    return sys.exc_info()[1] if said else None


def configure(settings: Log, **context: object) -> None:
    """Set up structlog for this process; `context` (door, instance) is on every line.

    The door of the context says with which level.
    """
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.level_of(f"{context.get('door', '')}").upper())
    structlog.configure(
        processors=_TEXT if as_text else [_json_lines(context)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: several processes share this stderr.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
    if context:  # one of the processes that last; a command may say what it stumbled over
        sys.excepthook = mishaps.tell
    # Libraries log identifiers and data sets with patient data at their lower levels.
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        _OfLibrariesAsText("%(name)s: %(message)s") if as_text else _OfLibraries(context)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[theirs])


class _OfLibrariesAsText(logging.Formatter):
    """Lines of libraries for a terminal."""

    def formatException(self, ei: Any) -> str:
        return mishaps.told(ei[1]) if ei[1] else ""


class _OfLibraries(_OfLibrariesAsText):
    """Lines of libraries as JSON like ours: a collector reads nothing else."""

    def __init__(self, context: dict[str, object]) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        line = {
            **self._context,
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _as_json(line)
