"""The password of a given Redis: where it may stand, and that nothing prints it."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

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
    within = loaded(tmp_path, f"redis: {{url: 'redis://u:{SECRET[:4]}@h'}}\n")
    for settings in (beside, within):
        assert SECRET[:3] in settings.redis.full_url
        assert SECRET[:4] not in f"{settings!r}{settings}{settings.redis!r}"
