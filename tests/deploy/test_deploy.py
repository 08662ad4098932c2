"""What is under docs/deploy: units that are locked, an installer that can run again, containers."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.cli import run_command
from broker.settings import Settings
from broker.store import external, metrics
from broker.store.keys import PREFIX
from broker.supervising.doors import ROLES
from broker.supervising.opening import DRAIN_S
from tests.doors.actors import CONFIG, Broker, find, until
from tests.ports import free_port

DEPLOY = Path("docs/deploy").absolute()
UNITS = sorted((DEPLOY / "systemd").iterdir())
COMPOSE = yaml.safe_load(Path("docker-compose.yml").read_text())


def service(unit: Path) -> dict[str, str]:
    """The [Service] section; of a key that is there twice the last line."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(unit)
    return dict(parser["Service"])


@pytest.mark.peer("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])
def test_a_unit_exposes_no_more_than_it_has_to(unit, tmp_path):
    named = tmp_path / unit.name.replace("@", "@orders")
    shutil.copy(unit, named)
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", named],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Overall exposure level" in analysed.stdout, analysed.stderr
    assert analysed.returncode == 0, analysed.stdout[-200:]


@pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])
def test_a_unit_waits_for_ready_feeds_a_watchdog_and_leaves_time_to_drain(unit):
    told = service(unit)
    assert told["Type"] == "notify"
    assert told["WatchdogSec"]
    assert told["RestartPreventExitStatus"] == f"{os.EX_CONFIG}"
    assert told["KillMode"] == "mixed"
    assert int(told["TimeoutStopSec"].removesuffix("s")) > DRAIN_S + 20
    role = " --role %i" if "@" in unit.name else ""
    assert told["ExecStart"] == f"/opt/worklist-broker/bin/broker run{role}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root into which the installer has installed; libraries are those of this Python."""
    root = tmp_path_factory.mktemp("image")
    program = root / "opt" / "worklist-broker"
    venv.create(program, with_pip=True)
    (here,) = (path for path in sys.path if path.endswith("site-packages"))
    (site,) = program.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{here}\n")
    assert "something changed" in install(root)
    return root


def install(root: Path) -> str:
    ran = subprocess.run(
        ["sh", "-c", 'umask 077; exec sh "$0"', DEPLOY / "install.sh"],
        env={**os.environ, "DESTDIR": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.timeout(180)
def test_the_installer_installs_a_program_that_runs_with_its_mappings(image):
    program = image / "opt" / "worklist-broker" / "bin" / "broker"
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    checked = subprocess.run(
        [program, "map", "check", image / "etc/worklist-broker/mappings"],
        cwd=image,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    for path in (program, image / "usr/share/doc/worklist-broker/handbook.md"):
        assert path.stat().st_mode & stat.S_IROTH, "root's umask keeps the broker's user out"
        assert path.parent.stat().st_mode & stat.S_IXOTH
    assert "all mappings are right" in checked.stdout + checked.stderr
    installed = {path.name for path in (image / "etc/systemd/system").iterdir()}
    assert installed == {unit.name for unit in UNITS}


@pytest.mark.timeout(180)
def test_the_installer_changes_nothing_when_it_runs_again_and_never_files_of_the_site(image):
    settings = image / "etc" / "worklist-broker" / "broker.yaml"
    mapping = settings.parent / "mappings" / "minimal.yaml"
    before = settings.read_text()
    settings.write_text(f"{before}# ours\n")
    mapping.write_text(f"{mapping.read_text()}# ours\n")
    said = install(image)
    assert "something changed" not in said
    assert settings.read_text() == f"{before}# ours\n"
    assert mapping.read_text().endswith("# ours\n")
    (image / "etc/systemd/system/worklist-broker.service").write_text("[Service]\n")
    assert "unit " in install(image)


def test_the_installed_settings_are_right(tmp_path):
    settings = Settings.load(DEPLOY / "broker.yaml", {})
    assert settings.data == Path("/var/lib/worklist-broker")
    assert settings.mappings == Path("/etc/worklist-broker/mappings")


def test_a_profile_has_all_doors_or_one_a_service(tmp_path):
    services = COMPOSE["services"]
    profiles = {name: each["profiles"] for name, each in services.items()}
    assert profiles.pop("broker") == ["single"]
    group = {f"{kind}-{n}" for kind in ("redis", "sentinel") for n in (1, 2, 3)}
    assert set(profiles) == group | {*ROLES}
    assert all(each == ["scaled"] for each in profiles.values())
    replicas = {name: each.get("deploy", {}).get("replicas", 1) for name, each in services.items()}
    assert replicas == dict.fromkeys(services, 1) | {
        "orders": 2,
        "modality": 2,
        "updates": 2,
    }
    assert services["orders"]["ports"] == ["2575-2576:2575"]
    for name in sorted(group):
        kind, told = name.partition("-")[0].replace("redis", "server"), services[name]["command"]
        assert told == ["sh", "/redis-group.sh", kind, name, "redis-1"]
    for name in ("broker", *ROLES):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > DRAIN_S + 20


def test_the_variables_of_the_containers_are_settings():
    for name in ("broker", "orders"):
        told = COMPOSE["services"][name]["environment"]
        values = {key: default(text) for key, text in told.items()}
        assert Settings.load(None, values).site == "Hospital"


def test_the_self_test_of_the_containers_calls_every_door_from_their_network():
    told = {
        key: default(text) for key, text in COMPOSE["services"]["orders"]["environment"].items()
    }
    selftest = Settings.load(None, told).selftest
    services, places = COMPOSE["services"], (selftest.orders, selftest.modality, selftest.sink)
    assert [place.host for place in places] == ["orders", "modality", "console"]
    assert selftest.every
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert [str(each) for each in selftest.peers] == [default(network["subnet"])]
    for name in ("broker", "console"):
        assert services[name]["healthcheck"]["test"] == ["CMD", "broker", "selftest", "--last"]


@pytest.mark.peer("redis-server")
def test_the_group_of_the_containers_is_one_that_orders_can_be_entrusted_to(tmp_path):
    """Started with ports in place of names; a second start takes the settings as they are."""
    ports = [free_port() for _ in range(6)]
    running: list[subprocess.Popen[bytes]] = []

    def begin(kind: str, port: int) -> None:
        data = tmp_path / f"{port}"
        data.mkdir(exist_ok=True)
        told = {"DATA": str(data), "PORT": f"{port}", "MASTER_PORT": f"{ports[0]}"}
        command = ["sh", str(DEPLOY / "redis-group.sh"), kind, "127.0.0.1", "127.0.0.1"]
        running.append(subprocess.Popen(command, env=os.environ | told, stdout=subprocess.DEVNULL))

    hosts = [f"127.0.0.1:{port}" for port in ports[3:]]
    url = Settings.model_validate({"redis": {"sentinel": {"hosts": hosts}}}).redis.full_url
    try:
        for kind, port in zip(["server"] * 3 + ["sentinel"] * 3, ports, strict=True):
            begin(kind, port)
        until(lambda: external.writable(url), "writes")
        until(lambda: (found := external.standing(url)) and not found.troubles, "a quorum")
        until(lambda: (found := external.standing(url)) and found.replicas == 2, "two replicas")
        until(lambda: external.remarks(url) == [], "nothing to remark")
        assert external.objections(url) == []
        again = running.pop(1)
        again.kill()
        again.wait()
        begin("server", ports[1])
        until(lambda: (found := external.standing(url)) and found.replicas == 2, "two replicas")
    finally:
        for each in running:
            each.kill()
            each.wait()


def default(text: str) -> str:
    """What a text with `${NAME:-default}` in it is when nobody sets it."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.end()


@pytest.mark.peer("redis-server")
def test_the_health_checks_send_a_message_that_is_answered_and_changes_nothing(broker):
    broker.start()
    for _ in range(3):
        assert checked("orders", broker) == 0
        assert checked("modality", broker) == 0
    assert [each.outcome for each in broker.archived()] == ["repeat", "repeat", "applied"]
    assert find(broker) == []
    kept = broker.store.redis.keys(f"{PREFIX}*")
    assert not [key for key in kept if b":order:" in key or b":patient:" in key]
    broker.stop()
    assert checked("orders", broker) == os.EX_UNAVAILABLE
    assert checked("modality", broker) == os.EX_UNAVAILABLE


@pytest.mark.peer("redis-server")
def test_a_container_of_modality_is_well_also_where_only_known_scanners_may_call():
    strict = CONFIG.replace("dicom: {", "dicom: {unknown_ae: refuse, aes: [{title: CT1}], ")
    assert strict != CONFIG
    with Broker(strict).started() as broker:
        assert checked("modality", broker) == 0


@pytest.mark.peer("redis-server")
def test_a_container_of_updates_is_well_while_each_of_its_processes_is_heard(broker):
    """It listens nowhere, so what its processes leave in the store is asked."""
    broker.start()
    until(lambda: checked("updates", broker) == 0, "its processes to be heard")
    [name] = [name for name in broker.store.run(metrics.published()) if name.startswith("updates")]
    with pytest.MonkeyPatch.context() as told:  # one more process than there is
        told.setenv("BROKER_RIS", "[{name: ris, to: '127.0.0.1:9'}]")
        assert checked("updates", broker) == 1
    assert name == metrics.own_name("updates", 0)
    broker.stop()
    assert checked("updates", broker) == os.EX_UNAVAILABLE


def test_every_container_that_stays_has_a_health_check():
    for name, each in COMPOSE["services"].items():
        assert each["healthcheck"]["test"][0] == "CMD", name


def checked(name: str, broker: Broker) -> int:
    """The exit code of a service's health check, put to a broker that runs here."""
    words: list[Any] = list(COMPOSE["services"][name]["healthcheck"]["test"])
    assert words[:2] == ["CMD", "broker"]
    here = {
        "/etc/worklist-broker/health.hl7": str(DEPLOY / "health.hl7"),
        "127.0.0.1:2575": str(broker.hl7),
        "127.0.0.1:11112": str(broker.dicom),
    }
    line = [here.get(word, default(word)) for word in words[2:]]
    if name == "orders":
        line[-1] = str(broker.hl7)
    if name == "updates":
        line += ["--config", str(broker.folder / "broker.yaml")]
    return run_command(line)
