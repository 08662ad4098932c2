"""The house itself: what is locked, shipped and composed is what is written down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "tests/requirements.lock")


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=TOP, env=os.environ | environ, capture_output=True, text=True, check=False
    )


def our_files() -> Iterator[Path]:
    """Every file of the project that is or would be committed."""
    ignored = {".git", *(line.strip("/") for line in (TOP / ".gitignore").read_text().splitlines())}
    for folder, folders, names in os.walk(TOP):
        folders[:] = [name for name in folders if name not in ignored]
        yield from (Path(folder) / name for name in names)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_that_packages_come_from(lock):
    text = (TOP / lock).read_text()
    assert not re.search(
        r"://|--(index|extra-index|find-links|trusted)|^\s*/|@ ", text, re.MULTILINE
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_an_exact_version_and_a_hash_for_everything(lock):
    text = (TOP / lock).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        assert re.match(r"[a-z0-9_.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_tests_run_against_the_versions_that_are_installed():
    def pins(lock: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", (TOP / lock).read_text(), re.MULTILINE))

    assert pins(LOCKS[0]).items() <= pins(LOCKS[1]).items()


def test_every_dependency_is_in_the_lock():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w.-]+", each)[0].lower() for each in project["dependencies"]}
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (TOP / LOCKS[0]).read_text(), re.MULTILINE))
    assert names <= locked


def test_no_file_knows_the_machine_it_was_written_on():
    # A path of one part, such as /src, is anybody's.
    here = {str(place) for place in (TOP, Path.home()) if len(place.parts) > 2} | {
        "/" + "root"
    }  # in two, for this file is one of them
    pattern = re.compile(rb"(?<![\w.])(" + "|".join(map(re.escape, here)).encode() + rb")/")
    for path in our_files():
        assert not pattern.search(path.read_bytes()), path


def test_every_room_is_a_package():
    """The contracts about imports do not see a folder without `__init__.py`."""
    rooms = {path.parent for path in (TOP / "broker").rglob("*.py")}
    assert [room for room in sorted(rooms) if not (room / "__init__.py").is_file()] == []


def test_the_compose_file_is_one():
    checker = Path(sys.executable).with_name("check-jsonschema")
    checked = run(checker, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout


def test_compose_has_a_service_for_every_door():
    from broker.supervising.doors import ROLES

    text = (TOP / "docker-compose.yml").read_text()
    for role in ROLES:
        assert re.search(rf"^  {role}:\n(?:.*\n)*?    command: \[run, --role, {role}\]", text, re.M)


def test_the_layers_of_the_house_are_kept():
    checked = run(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert checked.returncode == 0, checked.stdout


def test_every_line_of_the_log_is_named_after_its_room():
    named = {
        (path.relative_to(TOP / "broker").parts[0], name)
        for path in (TOP / "broker").rglob("*.py")
        for name in re.findall(r'structlog.get_logger\("(\w+)"\)', path.read_text())
    }
    assert ("supervising", "supervising") in named
    assert not [(room, name) for room, name in named if room != name]


def test_an_installed_wheel_has_the_mappings_inside(tmp_path):
    """Built as `pip install .` builds it; the copy runs from elsewhere, without this checkout."""
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, "."),
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    program = "from broker.settings import Settings; print(Settings.load(None, {}).mappings)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    shipped = Path(found.stdout.strip())
    assert shipped == tmp_path / "installed" / "broker" / "_mappings"
    ours = {path.relative_to(TOP / "mappings") for path in (TOP / "mappings").rglob("*.*")}
    assert {path.relative_to(shipped) for path in shipped.rglob("*.*")} == ours


def test_make_says_what_to_install_where_python_is_too_old(tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        old = tmp_path / name
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    refused = run(
        *("make", "install", "VENV=" + str(tmp_path / "venv")),
        PATH=f"{tmp_path}:/usr/bin:/bin",
        MAKEFLAGS="",
    )
    assert refused.returncode != 0
    assert "No Python 3.11 or newer found" in refused.stderr


def test_everything_in_the_corpus_is_in_its_list(corpus):
    listed = set(re.findall(r"^## (\S+)\.hl7", (corpus / "outcomes.md").read_text(), re.MULTILINE))
    assert listed == {path.stem for path in corpus.glob("*.hl7")}


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("", "1 skipped")])
def test_a_test_without_its_peer_is_left_out_but_fails_in_ci(tmp_path, ci, outcome):
    shutil.copy(TOP / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    peer(name): a peer\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.peer('dcmtk')\ndef test_it(): pass\n"
    )
    ran = run(sys.executable, "-m", "pytest", "-rs", tmp_path, CI=ci, PATH="/none")
    assert outcome in ran.stdout
    assert "dcmtk is not installed" in ran.stdout
    assert ran.returncode == (1 if ci else 0)
