"""broker.yaml and BROKER_* variables as one frozen Settings; every mistake has its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from broker.mapping.text import document
from broker.mapping.text.nodes import Complaints, Node, Source
from broker.mapping.text.validating import validated
from broker.settings import loading
from broker.settings.audit import Audit
from broker.settings.modality import Dicom, Mpps
from broker.settings.orders import Hl7
from broker.settings.secrets import discreet, with_secrets
from broker.settings.selftest import Selftest
from broker.settings.store import Keep, Redis
from broker.settings.updates import Destination, Ris, Updates
from broker.settings.values import Section, Zone, read_address, read_zone
from broker.settings.watching import Console, Log
from broker.worklist.canary import DESTINATION
from broker.worklist.directory import Directory


def machine_zone() -> ZoneInfo:
    """The time zone of this machine: TZ, then /etc/localtime; UTC when neither names one."""
    linked = Path("/etc/localtime").resolve().as_posix().partition("/zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        if name:
            try:
                return read_zone(name)
            except ValueError:
                continue
    return ZoneInfo("UTC")


def shipped_mappings() -> Path:
    """The mapping files that ship: inside an installed wheel, else beside the package."""
    here = Path(__file__).resolve().parent.parent
    installed = here / "_mappings"
    return installed if installed.is_dir() else here.parent / "mappings"


class Settings(Section):
    """Everything an operator can say, checked once. Paths are absolute."""

    site: str = ""
    data: Path = Path("data")
    timezone: Zone = Field(default_factory=machine_zone)
    hl7: Hl7 = Hl7()
    dicom: Dicom = Dicom()
    mpps: Mpps = Mpps()
    redis: Redis = Redis()
    mappings: Path = Path("mappings")
    watch_mappings: bool = True
    ris: tuple[Ris, ...] = ()
    updates: Updates = Updates()
    console: Console = Console()
    keep: Keep = Keep()
    log: Log = Log()
    audit: Audit = Audit()
    selftest: Selftest = Selftest()

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        names = [each.name for each in self.destinations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            where = "ris, updates.forward" if self.updates.forward else "ris"
            raise ValueError(f"{where}: '{twice[0]}' is there twice")
        if DESTINATION in names:
            raise ValueError(f"ris, updates.forward: '{DESTINATION}' is the broker's own name")
        return self

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Everyone who is told what scanners did: RISs, then SCPs that get MPPS as it came."""
        return (*self.ris, *self.updates.forward)

    @property
    def told(self) -> tuple[Ris, ...]:
        """Every RIS, and the self-test where it listens as one of them would."""
        if not self.ris or self.selftest.every is None:
            return self.ris
        mapping, deadline_s = self.ris[0].mapping, self.selftest.deadline.total_seconds()
        own = Ris(
            name=DESTINATION,
            to=self.selftest.sink,
            mapping=mapping,
            connect_timeout_s=deadline_s,
            ack_timeout_s=deadline_s,
        )
        return (*self.ris, own)

    @property
    def directory(self) -> Directory:
        """The AEs that are known, in the site's time, and from where the self-test calls."""
        return self.dicom.directory(self.timezone, self.selftest.peers)

    @property
    def delivered(self) -> tuple[Destination, ...]:
        """Whoever something is delivered to: the destinations, and the self-test."""
        return (*self.told, *self.updates.forward)

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str]) -> Settings:
        """Defaults, then the file, then BROKER_A__B variables.

        Relative paths of the file mean its folder, those of variables the working directory.
        Without a `mappings` folder the shipped mappings are used. Raises Complaints.
        """
        return cls.read(path, environ)[0]

    @classmethod
    def read(cls, path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, Node]:
        """Do what `load` does, and give what was said, each value with its place."""
        try:
            return cls._read(path, environ)
        except Complaints as mistakes:
            raise discreet(mistakes, loading.names(cls)) from None

    @classmethod
    def _read(cls, path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, Node]:
        try:
            root = document.read(path) if path else Node({}, Source("settings"), 0, 0)
        except Complaints as mistakes:
            raise discreet(mistakes, loading.names(cls), unread=True) from None
        if root.kind not in ("mapping", "nothing"):
            raise Complaints([root.complaint("the configuration is a mapping of keys")])
        folder = (path.parent if path else Path()).absolute()
        tree = loading.anchored(loading.without_nothing(root), cls, folder)
        tree = loading.with_environment(tree, cls, environ)
        tree = with_secrets(tree, environ)
        settings = validated(cls, tree)
        return settings._with_absolute_paths(folder), tree

    def _with_absolute_paths(self, folder: Path) -> Settings:
        mappings, watched = folder / self.mappings, self.watch_mappings
        if "mappings" not in self.model_fields_set and not mappings.is_dir():
            mappings = shipped_mappings()
            watched = watched and "watch_mappings" in self.model_fields_set  # nobody edits those
        paths = {"data": folder / self.data, "mappings": mappings}
        return self.model_copy(update={**paths, "watch_mappings": watched})

    def bound_again(self, bound: Mapping[str, str]) -> Settings:
        """The same where every door of `bound` listens at the places said there, comma between.

        Only addresses change: who may connect, and how, stays what the operator has said.
        """
        again: dict[str, object] = {}
        if places := bound.get("hl7"):
            listeners = zip(self.hl7.listeners, places.split(","), strict=True)
            moved = [each.model_copy(update={"listen": read_address(at)}) for each, at in listeners]
            again["hl7"] = self.hl7.model_copy(update={"listeners": tuple(moved)})
        dicom: dict[str, object] = {}
        if place := bound.get("dicom"):
            dicom["listen"] = read_address(place)
        if self.dicom.tls and (place := bound.get("dicom-tls")):
            dicom["tls"] = self.dicom.tls.model_copy(update={"listen": read_address(place)})
        again["dicom"] = self.dicom.model_copy(update=dicom)
        if places := bound.get("console"):
            again["console"] = self.console.model_copy(update={"listen": read_address(places)})
        return self.model_copy(update=again)
