"""The doors there are, how many processes each has, and where they say that they listen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.settings import Settings

ROLES: Final = ("orders", "modality", "updates", "console")
WITH_MAPPINGS: Final = frozenset({"orders", "modality"})
LISTENING: Final = {
    "orders": ("hl7",),
    "modality": ("dicom", "dicom-tls"),
    "console": ("console",),
}
"""Doors that listen, with the names under which they say where."""


@dataclass(frozen=True)
class Door:
    """One process to keep alive."""

    role: str
    instance: int


def instances(settings: Settings, role: str) -> int:
    """How many processes a door has; `updates` is a dispatcher and a worker per connection."""
    counts = {
        "orders": settings.hl7.processes,
        "modality": settings.dicom.processes,
        "updates": 1 + sum(each.connections for each in settings.delivered),
    }
    return counts.get(role, 1)


def doors(settings: Settings, roles: Iterable[str]) -> list[Door]:
    """Every process of these roles."""
    return [Door(role, n) for role in roles for n in range(instances(settings, role))]


def ready_line(bound: Iterable[Mapping[str, str]]) -> str:
    """`ready hl7=HOST:PORT dicom=HOST:PORT console=HOST:PORT`; commas join several listeners."""
    listening = {name for names in LISTENING.values() for name in names}
    places = {name: place for door in bound for name, place in door.items() if name in listening}
    return " ".join(["ready", *(f"{name}={place}" for name, place in places.items())])
