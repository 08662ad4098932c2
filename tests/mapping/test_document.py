"""YAML as people write it: text only, every mistake with its place, nothing that can run away."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from broker.mapping.text.document import read, read_text
from broker.mapping.text.nodes import Complaints
from broker.mapping.text.validating import validated


def complaints(text: str) -> str:
    with pytest.raises(Complaints) as raised:
        read_text(text, "site.yaml")
    return str(raised.value)


def test_scalars_stay_the_text_they_look_like() -> None:
    root = read_text("a: NO\nb: 012\nc: [1e3, 'x y', ~, '']\nd:\n", "site.yaml")
    assert root.plain() == {"a": "NO", "b": "012", "c": ["1e3", "x y", None, ""], "d": None}


def test_a_complaint_points_at_the_word() -> None:
    node = read_text("a: 1\nname: PID-5 | persn\n", "site.yaml").entries["name"]
    assert str(node.complaint("unknown function 'persn'", offset=8, width=5)).splitlines() == [
        "site.yaml:2:15: unknown function 'persn'",
        "    2 | name: PID-5 | persn",
        "                      ^^^^^",
    ]


def test_a_quoted_text_is_pointed_into_as_well() -> None:
    node = read_text("name: 'PID-5 | persn'\n", "site.yaml").entries["name"]
    assert node.complaint("x", offset=8, width=5).column == 16


def test_duplicate_keys_are_named_with_the_first_line() -> None:
    assert "site.yaml:3:1: key 'a' again; it is already on line 1" in complaints(
        "a: 1\nb: 2\na: 3\n"
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_their_places() -> None:
    text = complaints("a: 1\na: 2\nb: &x 1\nc: !!int 3\n")
    lines = [line.split(": ")[0] for line in text.splitlines() if line.startswith("site.yaml")]
    assert lines == ["site.yaml:2:1", "site.yaml:3:4", "site.yaml:4:4"]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("a:\n\tb: 1\n", "YAML is indented with spaces, never with tabs"),
        ("a: 'CT' ?? PID-3\n", "quote all of it: \"'CT' ?? PID-3\""),
        ("a: {b: PID-3[1], c: [}\n", "site.yaml:1:"),
        ("a: \x01\n", "control characters are not allowed"),
        ("[a]: b\n", "a key must be text"),
        ("a: 1\n---\nb: 2\n", "a second document begins here"),
        ("[" * 60, "more than 24 levels"),
        ("a: &x [1]\nb: [*x, *x]\n", "anchors and aliases"),
        ("- 1\n" * 60_000, "more than 50,000 values"),
    ],
)
def test_what_yaml_allows_and_we_do_not_is_explained(text: str, fact: str) -> None:
    assert fact in complaints(text)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (
            "a: Größe\n".encode("latin-1"),
            ":1:6: byte 0xf6 is not UTF-8 — the file looks like Latin-1",
        ),
        ("a: 1\n".encode("utf-16"), ":1:1: is UTF-16 — save it as UTF-8"),
        (b"a: " + b"x" * 1_000_001, "the limit is 1,000,000"),
    ],
)
def test_bytes_that_are_not_utf8_are_a_clear_complaint(
    tmp_path: Path, data: bytes, fact: str
) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(data)
    with pytest.raises(Complaints) as raised:
        read(path)
    assert fact in str(raised.value)


def test_the_mark_and_line_ends_of_windows_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes("\ufeffa: Größe\r\nb: 2\r\n".encode())
    assert read(path).plain() == {"a": "Größe", "b": "2"}


def test_a_missing_file_is_a_complaint(tmp_path: Path) -> None:
    with pytest.raises(Complaints, match=r"missing\.yaml: cannot be read"):
        read(tmp_path / "missing.yaml")


class Port(BaseModel):
    model_config = ConfigDict(extra="forbid")
    listen: str
    backlog: int = 128


class Site(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ports: list[Port]
    extra: Port | None = None


def test_a_models_errors_become_complaints_with_hints() -> None:
    text = "ports:\n  - {listn: a, backlog: many}\nextra: {listen: b, backlogg: 1}\n"
    with pytest.raises(Complaints) as raised:
        validated(Site, read_text(text, "site.yaml"))
    heads = [str(each).splitlines()[0] for each in raised.value.complaints]
    assert heads == [
        "site.yaml:2:6: unknown key 'listn' — did you mean 'listen'?",
        "site.yaml:2:25: backlog: input should be a valid integer, "
        "unable to parse string as an integer",
        "site.yaml:3:20: unknown key 'backlogg' — did you mean 'backlog'?",
    ]


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#\n\t ,?~0", max_size=60))
def test_no_text_whatever_gives_anything_but_a_tree_or_complaints(text: str) -> None:
    with contextlib.suppress(Complaints):
        read_text(text, "site.yaml").plain()


@pytest.mark.parametrize(
    ("data", "place", "snippet"),
    [
        (b"a: b\nc: d\0e\n", (2, 5), "    2 | c: d·e\n            ^"),
        (b"a: b\nname: J\xfcrgen\n", (2, 8), "    2 | name: Jürgen\n               ^"),
        ("a: b\n".encode("utf-16"), (1, 1), "    1 | a: b\n        ^"),
        (b"a: b\n" * 200_000 + b"c: d\n", (200_001, 1), "200001 | c\n         ^"),
    ],
)
def test_what_is_no_text_is_shown_at_its_place(
    data: bytes, place: tuple[int, int], snippet: str, tmp_path: Path
) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(data)
    with pytest.raises(Complaints) as raised:
        read(path)
    (complaint,) = raised.value.complaints
    assert (complaint.line, complaint.column) == place
    assert complaint.snippet == snippet
