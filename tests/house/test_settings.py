"""broker.yaml and BROKER_* variables: defaults, precedence, places of mistakes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from broker.mapping.text.nodes import Complaints
from broker.settings import Address, Settings, shipped_mappings


@pytest.fixture
def written(tmp_path: Path):
    """A function that writes a broker.yaml and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "broker.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaints(path: Path | None, **environ: str) -> list[str]:
    with pytest.raises(Complaints) as caught:
        Settings.load(path, environ)
    return [str(complaint).splitlines()[0] for complaint in caught.value.complaints]


def test_without_a_file_every_key_has_its_default():
    settings = Settings.load(None, {})
    assert settings.hl7.listeners[0].listen == Address("127.0.0.1", 2575)
    assert settings.dicom.listen == Address("127.0.0.1", 11112)
    assert settings.dicom.ae_title == "BROKER"
    assert settings.console.listen == Address("127.0.0.1", 8080)
    assert settings.redis.mode == "embedded"
    assert settings.ris == ()
    assert settings.data == Path.cwd() / "data"


def test_the_example_of_the_manual_is_understood(written):
    path = written(
        "site: North Hospital\ndata: ./data\ntimezone: Europe/Berlin\n"
        "hl7:   {listen: '127.0.0.1:2575'}\n"
        "dicom: {ae_title: BROKER, listen: '127.0.0.1:11112', unknown_ae: accept, called_ae: any}\n"
        "redis: {mode: embedded}\nmappings: mappings\n"
        "ris:   [{name: ris, to: '127.0.0.1:2576'}]\nconsole: {listen: '127.0.0.1:8080'}\n"
    )
    settings = Settings.load(path, {})
    assert settings.site == "North Hospital"
    assert settings.timezone.key == "Europe/Berlin"
    assert settings.ris[0].to == Address("127.0.0.1", 2576)
    assert settings.ris[0].mapping == "status-orm"


def test_relative_paths_of_a_file_mean_its_folder(written, tmp_path):
    settings = Settings.load(written("data: records\nmappings: ours\n"), {})
    assert settings.data == tmp_path / "records"
    assert settings.mappings == tmp_path / "ours"


def test_relative_paths_of_a_variable_mean_the_working_directory(written, tmp_path):
    settings = Settings.load(written("data: records\n"), {"BROKER_DATA": "elsewhere"})
    assert settings.data == Path.cwd() / "elsewhere"


def test_without_a_mappings_folder_the_shipped_ones_are_used(written):
    assert Settings.load(written("site: x\n"), {}).mappings == shipped_mappings()


def test_a_folder_of_mappings_is_watched_unless_it_is_the_shipped_one(written, tmp_path):
    assert not Settings.load(written("site: x\n"), {}).watch_mappings
    assert Settings.load(written("watch_mappings: true\n"), {}).watch_mappings
    assert Settings.load(written("mappings: ours\n"), {}).watch_mappings
    unwatched = Settings.load(written("mappings: ours\nwatch_mappings: false\n"), {})
    assert not unwatched.watch_mappings
    (tmp_path / "mappings").mkdir()
    assert Settings.load(written("site: x\n"), {}).watch_mappings


def test_a_mappings_folder_beside_the_file_is_used(written, tmp_path):
    (tmp_path / "mappings").mkdir()
    assert Settings.load(written("site: x\n"), {}).mappings == tmp_path / "mappings"


def test_a_variable_wins_over_the_file(written):
    path = written("hl7: {listeners: [{listen: '127.0.0.1:1'}, {listen: '127.0.0.1:2'}]}\n")
    settings = Settings.load(path, {"BROKER_HL7__LISTEN": "[::1]:3"})
    assert [each.listen for each in settings.hl7.listeners] == [Address("::1", 3)]


def test_a_list_is_given_to_a_variable_as_yaml():
    settings = Settings.load(
        None, {"BROKER_RIS": "[{name: a, to: 'host:1'}, {name: b, to: 'h:2'}]"}
    )
    assert [ris.name for ris in settings.ris] == ["a", "b"]


def test_a_redis_url_is_a_mode():
    settings = Settings.load(None, {"BROKER_REDIS__URL": "redis://redis:6379/0"})
    assert settings.redis.mode == "url"


def test_values_stay_what_they_look_like(written):
    settings = Settings.load(written("site: NO\ndicom: {ae_title: 012}\n"), {})
    assert settings.site == "NO"
    assert settings.dicom.ae_title == "012"


def test_sizes_and_spans_have_units(written):
    path = written("keep: {messages: 2d, message_bytes: 3 MiB}\nhl7: {limits: {idle: 90m}}\n")
    settings = Settings.load(path, {})
    assert settings.keep.messages == timedelta(days=2)
    assert settings.keep.message_bytes == 3 * 2**20
    assert settings.hl7.limits.idle == timedelta(minutes=90)


def test_a_key_with_nothing_behind_it_means_the_default(written):
    settings = Settings.load(written("ris:\nhl7:\nsite:\n"), {})
    assert settings.ris == ()
    assert settings.site == ""


def test_every_mistake_of_a_file_is_named_with_its_place(written):
    path = written("hl7: {listen: '127.0.0.1:99999'}\ndicom: {ae_titel: CT}\ntimezone: Mars\n")
    first, second, third = complaints(path)
    assert first == f"{path}:1:15: the port is a number from 0 to 65535"
    assert second == f"{path}:2:9: unknown key 'ae_titel' — did you mean 'ae_title'?"
    assert third.startswith(f"{path}:3:11: ")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("dicom: {ae_title: 'A\\B'}\n", "an AE title is"),
        ("dicom: {ae_title: SEVENTEEN_LETTERS}\n", "an AE title is"),
        ("redis: {mode: url}\n", "needs a url"),
        ("redis: {mode: embedded, url: 'redis://x'}\n", "leave one of the two out"),
        ("redis: {url: 'http://x'}\n", "begins with redis://"),
        ("ris: [{name: a, to: 'h:1'}, {name: a, to: 'h:2'}]\n", "'a' is there twice"),
        ("hl7: {listen: '127.0.0.1:1', listeners: []}\n", "not both"),
        ("keep: {dead: for ever}\n", "time span"),
        ("- a list\n", "mapping of keys"),
    ],
)
def test_nonsense_is_refused_with_the_reason(written, text, fact):
    (complaint,) = complaints(written(text))
    assert fact in complaint


def test_a_mistake_in_a_variable_names_the_variable():
    (complaint,) = complaints(None, BROKER_HL7__LISTEN="2575")
    assert complaint.startswith("BROKER_HL7__LISTEN: an address is HOST:PORT")


def test_a_whole_block_in_a_variable_is_a_mistake_and_is_not_left_out():
    """`BROKER_AUDIT={to: file}` would keep no trail."""
    with pytest.raises(Complaints) as caught:
        Settings.load(None, {"BROKER_AUDIT": "{to: file}"})
    assert "BROKER_AUDIT: a block is not said by a variable" in str(caught.value)
    assert "BROKER_AUDIT__TO" in str(caught.value)


def test_an_unknown_variable_is_a_mistake_with_a_suggestion():
    (complaint,) = complaints(None, BROKER_HL7__LISTN="127.0.0.1:1")
    assert complaint == (
        "BROKER_HL7__LISTN: no setting has this name — did you mean 'BROKER_HL7__LISTEN'?"
    )


def test_what_a_container_platform_injects_is_not_a_mistake():
    Settings.load(None, {"BROKER_PORT": "tcp://10.0.0.1:2575", "BROKER_SERVICE_HOST": "10.0.0.1"})


def test_a_missing_file_is_a_complaint(tmp_path):
    (complaint,) = complaints(tmp_path / "none.yaml")
    assert "cannot be read" in complaint


def test_each_listener_has_its_own_limits_where_it_says_so(written):
    path = written(
        "hl7:\n  limits: {idle: 1h, connections: 7}\n  listeners:\n"
        "    - {listen: '127.0.0.1:1', limits: {connections: 3}, peers: [10.1.2.3/16, '::1']}\n"
        "    - {listen: '127.0.0.1:2', senders: ['RIS|*'], processing: [P]}\n"
    )
    hl7 = Settings.load(path, {}).hl7
    first, second = (hl7.limits_of(each) for each in hl7.listeners)
    assert (first.connections, first.idle) == (3, timedelta(hours=1))
    assert (second.connections, second.idle) == (7, timedelta(hours=1))
    assert [str(each) for each in hl7.listeners[0].peers] == ["10.1.0.0/16", "::1/128"]


def test_a_network_that_is_none_is_told_at_its_place(written):
    (complaint,) = complaints(
        written("hl7:\n  listeners:\n  - {listen: '127.0.0.1:1', peers: [10.1]}\n")
    )
    assert complaint.partition("broker.yaml:")[2].startswith("3:")
    assert "10.1.0.0/16" in complaint


def test_a_charset_that_stands_alone_has_no_other_beside_it(written):
    said = "dicom: {aes: [{title: CT1, charset: 'ISO_IR 192\\ISO 2022 IR 87'}]}\n"
    [complaint] = complaints(written(said))
    assert ":1:" in complaint
    assert "'ISO_IR 192' stands alone" in complaint
    Settings.load(written("dicom: {aes: [{title: CT1, charset: '\\ISO 2022 IR 87'}]}\n"), {})


@pytest.mark.parametrize(
    "said",
    [
        "dicom: {aes: [{title: CT1, modalities: [MR, C T]}]}",
        "dicom: {rules: {modalities: [ct]}}",
        "mpps: {done_after: {C T: 2h}}",
        "mpps: {ends_within_of: {ct: 2h}}",
    ],
)
def test_a_modality_is_a_code_without_blanks_in_upper_case(written, said):
    [complaint] = complaints(written(f"{said}\n"))
    assert ":1:" in complaint
    assert "is no modality (PS3.3 C.7.3.1.1.1): a code as CT" in complaint
