"""Options that verbs share: fields of a record, which a verb takes as one argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

Verb = Callable[..., None]


def spread(verb: Verb) -> Verb:
    """Give a verb every field of its dataclass arguments as an option of its own.

    Fields are annotated as typer wants its options; their order is that of `--help`.
    """
    hints = get_type_hints(verb, include_extras=True)
    records: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    def run(**given: Any) -> None:
        for name, record in records.items():
            given[name] = record(**{each.name: given.pop(each.name) for each in fields(record)})
        verb(**given)

    parameters: list[Parameter] = []
    for each in signature(verb).parameters.values():
        if each.name in records:
            parameters += _options(records[each.name])
        else:
            hint = hints[each.name]
            parameters.append(each.replace(annotation=hint, kind=Parameter.KEYWORD_ONLY))
    run.__doc__, run.__name__, run.__module__ = verb.__doc__, verb.__name__, verb.__module__
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _options(record: Any) -> Iterator[Parameter]:
    hints = get_type_hints(record, include_extras=True)
    for each in fields(record):
        default = Parameter.empty if each.default is MISSING else each.default
        yield Parameter(
            each.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[each.name]
        )
