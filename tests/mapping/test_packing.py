"""A folder of mappings as files by name and back: the same bundle, from wherever it is read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.mapping import packing
from broker.mapping.packing import read_folder, unpack
from broker.mapping.text.nodes import Complaints
from tests.houses import GOES_OUT

Written = Callable[..., Path]


def test_the_shipped_folder_comes_back_whole(mappings: Path) -> None:
    files = read_folder(mappings)
    assert {"ihe-orders.yaml", "tables/sex.csv", "examples/orm-231-schedule.hl7"} <= files.keys()
    bundle = unpack(files, mappings)
    assert {"status-orm", "status-omi"} <= bundle.outbound.keys()
    assert bundle.inbound


def test_the_version_is_that_of_the_content_wherever_it_lies(written: Written) -> None:
    files = read_folder(written(GOES_OUT))
    version = unpack(files, Path("here")).version
    assert unpack(dict(reversed(files.items())), Path("there")).version == version
    assert unpack(files | {"tables/note.txt": b"x"}, Path("here")).version != version
    more = files | {"site.yaml": files["site.yaml"] + b"  OBR-24: Modality\n"}
    assert unpack(more, Path("here")).version != version


def test_what_editors_leave_behind_is_no_part_of_it(written: Written) -> None:
    folder = written(GOES_OUT)
    files = read_folder(folder)
    for name in ("site.yaml~", ".site.yaml.swp", "#site.yaml#", "site.yaml.bak", ".git"):
        (folder / name).write_text("x")
    assert read_folder(folder) == files


def test_complaints_speak_of_the_folder_that_people_edit(written: Written) -> None:
    folder = written(GOES_OUT.replace("StepStatus", "StepState"))
    with pytest.raises(Complaints) as wrong:
        unpack(read_folder(folder), folder)
    assert str(wrong.value).startswith(f"{folder}/site.yaml:8:")
    assert tempfile.gettempdir() not in str(wrong.value).replace(str(folder), "")


@pytest.mark.parametrize("name", ["../site.yaml", "/etc/site.yaml", "a/../../site.yaml"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(Complaints, match="outside"):
        unpack({name: GOES_OUT.encode()}, Path("here"))


def test_a_folder_that_cannot_be_one_says_so(
    tmp_path: Path, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Complaints, match="there is no such folder"):
        read_folder(tmp_path / "nowhere")
    folder = written(GOES_OUT)
    with pytest.raises(Complaints, match="is not a folder"):
        read_folder(folder / "site.yaml")
    monkeypatch.setattr(packing, "MAX_BYTES", 100)
    with pytest.raises(Complaints, match="more than 2,000 files or 100 bytes"):
        read_folder(folder)


def test_a_full_disk_is_a_complaint_and_no_crash(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read_folder(written(GOES_OUT))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(Complaints, match="name another folder in TMPDIR"):
        unpack(files, Path("here"))
