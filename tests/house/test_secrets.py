"""The password of a given Redis: where it may stand, and that nothing prints it."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.mapping.text.nodes import Complaints
from broker.settings import Settings

SECURITY = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
SECRET = "Geh#eim@nis/"
URL = "redis: {url: 'redis://h:6379/0', username: broker"


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "broker.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environ)


def test_the_example_of_the_documentation_means_what_it_says(tmp_path: Path) -> None:
    found = re.search(r"^```yaml secrets\n(.*?)^```", SECURITY, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "redis.password").write_text(f"{SECRET}\n")
    url = loaded(tmp_path, found[1]).redis.full_url
    assert url == "rediss://broker:Geh%23eim%40nis%2F@redis.north.example:6380/0"


def test_a_variable_wins_over_a_credential_and_that_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from-file\nsecond line\n")
    (tmp_path / "redis.password").write_text("from-systemd")
    text = f"{URL}, password_file: file}}\n"
    systemd = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    variable = {"BROKER_REDIS__PASSWORD": "from-variable"}
    assert ":from-file@" in loaded(tmp_path, text).redis.full_url
    assert ":from-systemd@" in loaded(tmp_path, text, **systemd).redis.full_url
    assert ":from-variable@" in loaded(tmp_path, text, **systemd, **variable).redis.full_url
    by_name = loaded(tmp_path, f"{URL}}}\n", BROKER_REDIS__PASSWORD_FILE=str(tmp_path / "file"))
    assert ":from-file@" in by_name.redis.full_url


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (f"{URL}, password: a, password_file: b}}\n", "say password or password_file, not both"),
        (f"{URL}, password_file: nobody}}\n", "nobody: No such file"),
        ("redis: {password: a}\n", "a password is that of a given server"),
        ("redis: {url: 'redis://u:p@h', password: a}\n", "in the url, or beside it, not both"),
    ],
)
def test_nonsense_is_refused_with_its_reason(tmp_path: Path, text: str, fact: str) -> None:
    with pytest.raises(Complaints, match=re.escape(fact)):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"redis: {{url: 'http://u:{SECRET.replace('@', '').replace('/', '')}@h'}}\n",
        f"redis: {{url: 'redis://h', passwort: x, password: '{SECRET}'}}\n",
        f"redis:\n  url: redis://h\n  password: '{SECRET}'\n  password_file: x\n",
        f"redis: {{password: '{SECRET}', url: [}}\n",
        f"redis: {{url: 'redis://u:{SECRET[:4]}@h', mode: embedded}}\n",
        f'redis:\n  password: "{SECRET}\n',
    ],
)
def test_no_mistake_in_its_line_prints_it(tmp_path: Path, text: str) -> None:
    """Neither the complaint, nor a traceback with all that led to it."""
    with pytest.raises(Complaints) as caught:
        loaded(tmp_path, text)
    said = "".join(traceback.format_exception(caught.value)) + str(caught.value)
    assert "broker.yaml:" in said
    assert SECRET[:4] not in said


def test_no_settings_that_are_printed_have_it_in_them(tmp_path: Path) -> None:
    beside = loaded(tmp_path, f"{URL}, password: '{SECRET}'}}\n")
    within = loaded(tmp_path, f"redis: {{url: 'redis://u:{quote(SECRET, '')}@h'}}\n")
    for settings in (beside, within):
        assert SECRET[:3] in settings.redis.full_url
        assert SECRET[:3] not in f"{settings!r}{settings}{settings.redis!r}"


WRITTEN = (
    "console: {S}\n",
    "console:\n  {S}\n",
    "console: [{S}]\n",
    "console:\n- {S}\n",
    "console:\n  password {S}\n",
    "console:\n  password={S}\n",
    "console:\n  password:{S}\n",
    "console:\n  passwort: {S}\n",
    "console: {{passwort: {S}}}\n",
    "console: {{password {S}}}\n",
    "console: {{password={S}}}\n",
    "console: {{{S}}}\n",
    "console:\n  password: {S}: x\n",
    "console:\n  password: {S}\n    more: {S}\n",
    "console:\n  password: '{S}\n",
    "console:\n  password: '{S}' {S}\n",
    "console:\n password: {S}\n  {S}\n",
    "console:\n\tpassword: {S}\n",
    "console:\n  - password: {S}\n",
    "console:\n  password: [{S}\n",
    "console:\n  password: {{{S}\n",
    "console:\n  password:\n    value: {S}\n",
    "console:\n  password:\n    - {S}\n",
    "console:\n  password: &{S}\n",
    "console:\n  password: *{S}\n",
    "console:\n  password: !{S} x\n",
    "console:\n  password: !!{S} x\n",
    "console:\n  password: '%{S}\\x'\n  passwd: %{S}\n",
    "console:\n  password: @{S}\n",
    "console:\n  password: `{S}`\n",
    "console:\n  user: '{S}:'\n",
    "console:\n  listen: {S}\n",
    "console:\n  tls: {S}\n",
    "console:\n  free: {S}\n",
    "redis: {S}\n",
    "redis: {{url: {S}}}\n",
    "redis: {{url: 'redis://u:{S} x@h'}}\n",
    "redis: {{url: 'redis://h/?passwort={S}'}}\n",
    "redis: {{sentinel: {S}}}\n",
    "redis: {{sentinel: {{hosts: ['{S}@h:1']}}}}\n",
    "redis: {{sentinel: {{hosts: ['h:1'], passwd: {S}}}}}\n",
    "{S}\n",
    "password {S}\n",
    "- {S}\n",
    "site: x\npassword: {S}\n  {S}\n",
    "ris: [{{name: a, to: 'u:{S}@h:1'}}]\n",
    "ris: {S}\n",
)


@pytest.mark.parametrize(
    "secret", ["Hunter2Xyz9", "Hunter2'Xyz9", 'Hunter2"Xyz9', "Hunter2: Xyz9", "'Hunter2'Xyz9"]
)
@pytest.mark.parametrize("text", WRITTEN)
def test_no_mistake_of_writing_prints_what_may_be_a_password(
    tmp_path: Path, text: str, secret: str
) -> None:
    """Where a colon, a quote or a column is wrong nobody knows which word is the password."""
    try:
        loaded(tmp_path, text.format(S=secret))
    except Complaints as mistakes:
        said = "".join(traceback.format_exception(mistakes)) + str(mistakes)
        assert "broker.yaml:" in said
        assert "unter2" not in said.casefold(), said
        assert "xyz9" not in said.casefold(), said


def test_a_mistake_shows_the_key_of_its_line_and_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    with pytest.raises(Complaints) as caught:
        loaded(tmp_path, "site: x\nconsole: Hunter2\n")
    head, *shown = str(caught.value).splitlines()
    assert head.startswith(f"{path}:2:10: console: must be a block of keys — write its keys below")
    assert shown == ["    2 | console: …", " " * 17 + "^"]
    with pytest.raises(Complaints) as caught:
        loaded(tmp_path, "console:\n  password:Hunter2\n  passwort: x\n")
    assert "2:11: a space is missing after ':'" in str(caught.value)
