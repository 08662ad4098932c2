"""broker.yaml and BROKER_* variables as one frozen Settings; every mistake has its place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_origin
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    model_validator,
)

from broker.mapping import document
from broker.mapping.document import Complaint, Complaints, Node, Source

PREFIX = "BROKER_"
SIZE_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Address(NamedTuple):
    """Where to listen or whom to call. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(value: object) -> Address:
    """HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare and bare == host):
        raise ValueError("an address is HOST:PORT, for example 127.0.0.1:2575 or [::1]:2575")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("the port is a number from 0 to 65535")
    return Address(bare, int(port))


def read_size(value: object) -> object:
    """A count of bytes, or a number with KiB, MiB or GiB."""
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(value))
    if found is None or found[2].upper() not in SIZE_UNITS:
        raise ValueError("a size is bytes, or a number with KiB, MiB or GiB")
    return int(found[1]) * SIZE_UNITS[found[2].upper()]


def read_duration(value: object) -> object:
    """Seconds, or a number with s, m, h or d."""
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value))
    if found is None:
        raise ValueError("a time span is a number with s, m, h or d, for example 30d")
    return timedelta(seconds=float(found[1]) * TIME_UNITS[found[2] or "s"])


def read_zone(value: object) -> ZoneInfo:
    """An IANA time zone. Raises ValueError."""
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("not a time zone; one is named like Europe/Berlin") from error


Endpoint = Annotated[Address, PlainValidator(read_address)]
Size = Annotated[int, BeforeValidator(read_size)]
Duration = Annotated[timedelta, BeforeValidator(read_duration)]
Zone = Annotated[ZoneInfo, PlainValidator(read_zone)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[ -\[\]-~]{1,16}$")
]  # PS3.5 6.2: no backslash, no control characters


class Section(BaseModel):
    """A block of the configuration: frozen, and nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Hl7Limits(Section):
    """What one MLLP peer may cost us."""

    max_message: Size = 16 * 2**20
    message_deadline: Duration = timedelta(seconds=60)
    write_deadline: Duration = timedelta(seconds=10)
    idle: Duration = timedelta(hours=12)
    connections: int = Field(200, ge=1)
    connections_per_host: int = Field(50, ge=1)


class DicomLimits(Section):
    """What one DICOM peer may cost us."""

    association_deadline: Duration = timedelta(seconds=30)
    pdu_deadline: Duration = timedelta(seconds=30)
    write_deadline: Duration = timedelta(seconds=30)
    idle: Duration = timedelta(hours=1)
    associations: int = Field(200, ge=1)
    associations_per_host: int = Field(50, ge=1)
    max_answers: int = Field(5000, ge=1)


class Listener(Section):
    """One MLLP listener."""

    listen: Endpoint = Address("127.0.0.1", 2575)


class Hl7(Section):
    """Orders in. `listen: …` is short for one listener."""

    listeners: tuple[Listener, ...] = (Listener(),)
    processes: int = Field(1, ge=1, le=64)
    limits: Hl7Limits = Hl7Limits()

    @model_validator(mode="before")
    @classmethod
    def _one_listener(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "listen" not in values:
            return values
        if "listeners" in values:
            raise ValueError("give either listen or listeners, not both")
        rest = {key: value for key, value in values.items() if key != "listen"}
        return {**rest, "listeners": [{"listen": values["listen"]}]}


class Dicom(Section):
    """The worklist and MPPS service."""

    ae_title: AeTitle = "BROKER"
    listen: Endpoint = Address("127.0.0.1", 11112)
    unknown_ae: Literal["accept", "refuse"] = "accept"
    called_ae: Literal["any", "own"] = "any"
    processes: int = Field(1, ge=1, le=64)
    limits: DicomLimits = DicomLimits()


class Ae(Section):
    """A scanner we know. `charset` is what it reads, as in (0008,0005); empty: the narrowest."""

    title: AeTitle
    charset: str = ""


class Redis(Section):
    """Where the records live: a private server of ours, or one that is given by URL."""

    mode: Literal["embedded", "url"] = "embedded"
    url: str = ""
    accept_loss: bool = False
    server: Path | None = None
    max_memory: Size = 2**30
    disk_reserve: Size = 100 * 2**20

    @model_validator(mode="before")
    @classmethod
    def _url_is_a_mode(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("url") and "mode" not in values:
            return {**values, "mode": "url"}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "embedded" and self.url:
            raise ValueError("mode: embedded has no url; leave one of the two out")
        if self.mode == "url" and not self.url:
            raise ValueError("mode: url needs a url, for example redis://127.0.0.1:6379/0")
        if self.url and not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("the url begins with redis://, rediss:// or unix://")
        return self


class Ris(Section):
    """A RIS that is told what the scanners did."""

    name: Name
    to: Endpoint
    mapping: str = "status-orm"
    on_reject: Literal["skip", "hold"] = "skip"
    connect_timeout_s: float = Field(10, gt=0)
    ack_timeout_s: float = Field(30, gt=0)


class Console(Section):
    """Health and metrics over HTTP."""

    listen: Endpoint = Address("127.0.0.1", 8080)


class Keep(Section):
    """How long things stay before they are removed; `message_bytes` bounds the archive as well."""

    messages: Duration = timedelta(days=30)
    message_bytes: Size = 256 * 2**20
    guard: Duration = timedelta(days=7)
    completed: Duration = timedelta(days=30)
    past: Duration = timedelta(days=30)
    patients: Duration = timedelta(days=90)
    dead: Duration = timedelta(days=90)


class Log(Section):
    """Logs go to stderr: text for people, json for machines; auto asks whether it is a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


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
    here = Path(__file__).resolve().parent
    installed = here / "_mappings"
    return installed if installed.is_dir() else here.parent / "mappings"


class Settings(Section):
    """Everything an operator can say, checked once. Paths are absolute."""

    site: str = ""
    data: Path = Path("data")
    timezone: Zone = Field(default_factory=machine_zone)
    hl7: Hl7 = Hl7()
    dicom: Dicom = Dicom()
    ae: tuple[Ae, ...] = ()
    redis: Redis = Redis()
    mappings: Path = Path("mappings")
    watch_mappings: bool = True
    ris: tuple[Ris, ...] = ()
    console: Console = Console()
    keep: Keep = Keep()
    log: Log = Log()

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        for what, names in (
            ("ris", [r.name for r in self.ris]),
            ("ae", [a.title for a in self.ae]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: '{twice[0]}' is there twice")
        return self

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str]) -> Settings:
        """Defaults, then the file, then BROKER_A__B variables.

        Relative paths of the file mean its folder, those of variables the working directory.
        Without a `mappings` folder the shipped mappings are used. Raises Complaints.
        """
        root = document.read(path) if path else Node({}, Source("settings"), 0, 0)
        if root.kind not in ("mapping", "nothing"):
            raise Complaints([root.complaint("the configuration is a mapping of keys")])
        folder = (path.parent if path else Path()).absolute()
        tree = _anchored(_without_nothing(root), folder)
        tree = _with_environment(tree, environ)
        settings = document.validated(cls, tree)
        return settings._with_absolute_paths(folder)

    def _with_absolute_paths(self, folder: Path) -> Settings:
        mappings, watched = folder / self.mappings, self.watch_mappings
        if "mappings" not in self.model_fields_set and not mappings.is_dir():
            mappings = shipped_mappings()
            watched = watched and "watch_mappings" in self.model_fields_set  # nobody edits those
        paths = {"data": folder / self.data, "mappings": mappings}
        return self.model_copy(update={**paths, "watch_mappings": watched})


PATHS = (("data",), ("mappings",), ("redis", "server"))
LISTEN_FORMS = (("hl7", "listen"), ("hl7", "listeners"))


def _without_nothing(node: Node) -> Node:
    """`ris:` with nothing behind it means the same as no `ris:` at all."""
    if isinstance(node.value, dict):
        said = {k: _without_nothing(v) for k, v in node.value.items() if v.value is not None}
        return replace(node, value=said)
    return node if node.value is not None else replace(node, value={})


def _anchored(tree: Node, folder: Path) -> Node:
    """The tree with its relative paths made absolute against `folder`."""
    for keys in PATHS:
        node = tree.at(keys)
        if node is not tree and node.text is not None:
            tree = _with_value(tree, keys, replace(node, value=str(folder / node.text)))
    return tree


def _with_environment(tree: Node, environ: Mapping[str, str]) -> Node:
    """The tree with every BROKER_A__B variable in its place. Raises Complaints for unknown ones."""
    lists = {_variable(keys): is_list for keys, is_list in _all_keys(Settings)}
    known = {_variable(keys): keys for keys, _ in _all_keys(Settings)}
    strangers = []
    for variable in sorted(environ):
        # Container platforms inject names such as BROKER_PORT for a service called "broker": only
        # what has our double underscore, or is a key of ours, can be a mistake of the operator.
        if not variable.startswith(PREFIX) or ("__" not in variable and variable not in known):
            continue
        if variable in known:
            if known[variable] in LISTEN_FORMS:  # either form replaces the other
                tree = _without(tree, LISTEN_FORMS)
            node = _variable_node(variable, environ[variable], is_list=lists[variable])
            tree = _with_value(tree, known[variable], node)
        else:
            hint = document.did_you_mean(variable, known)
            strangers.append(Complaint(variable, 0, 0, "no setting has this name", hint))
    if strangers:
        raise Complaints(strangers)
    return _anchored(tree, Path.cwd())


def _variable(keys: tuple[str, ...]) -> str:
    return PREFIX + "__".join(keys).upper()


def _all_keys(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every key that can be said, as its path, and whether its value is a list."""
    if model is Hl7:
        yield ("listen",), False  # the shorthand is not a field
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from (((name, *rest), is_list) for rest, is_list in _all_keys(info.annotation))
        else:
            yield (name,), get_origin(info.annotation) is tuple


def _variable_node(variable: str, value: str, *, is_list: bool) -> Node:
    """A value as a node that complains under the variable's name; lists are written as in YAML."""
    if is_list:
        return document.read_text(value or "[]", variable)
    return Node(value, Source(variable), 0, 0)


def _with_value(tree: Node, keys: tuple[str, ...], value: Node) -> Node:
    first, *rest = keys
    inner = tree.entries.get(first, Node({}, value.source, 0, 0))
    new = _with_value(inner, tuple(rest), value) if rest else value
    return replace(tree, value={**tree.entries, first: new})


def _without(tree: Node, places: Iterable[tuple[str, ...]]) -> Node:
    for section, key in places:
        inner = tree.entries.get(section)
        if inner is not None and key in inner.entries:
            rest = {name: node for name, node in inner.entries.items() if name != key}
            tree = _with_value(tree, (section,), replace(inner, value=rest))
    return tree
