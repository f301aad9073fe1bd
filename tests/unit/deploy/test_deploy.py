"""The files of deploy/: what the code says, whole, and nothing that the program would refuse."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from gateway.app.environment import unknown_settings
from gateway.app.keys import RINGS_OF
from gateway.app.stages import STAGES
from gateway.cli import _NOUNS
from gateway.cli.run import app as run_app
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from gateway.sealing.sealing import MasterKeys
from schemas.topics import TOPICS
from streams.__main__ import STAGES as MODULES
from tests.support.cli import mypay
from tests.support.deployment_tools import HADOLINT
from tests.support.deployments import DEPLOY, NETWORKS, document, files_read_by, processes


def texts() -> Iterator[tuple[str, str]]:
    kinds = (".yaml", ".yml", ".tpl", ".service", ".timer", ".target", ".lock")
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and (path.suffix in kinds or path.name.startswith("Dockerfile")):
            yield str(path.relative_to(DEPLOY)), path.read_text()


def test_the_files_are_what_the_code_says(tmp_path: Path) -> None:
    mypay("deploy", "check").expect()
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "deploy" / "compose.yaml").write_text("services: {}\n")
    ran = mypay("deploy", "check", "--directory", tmp_path / "deploy", "--json").expect(1)
    assert ran.json == {"drift": ["compose.yaml"]}
    mypay("deploy", "generate", "--directory", tmp_path / "deploy").expect()
    mypay("deploy", "check", "--directory", tmp_path / "deploy").expect()
    (tmp_path / "deploy" / "helm" / "mypay" / "values.yaml").unlink()
    assert "values.yaml is not there" in mypay("deploy", "check", "--directory", tmp_path / "deploy").expect(2).err


def test_the_table_of_stages_is_the_programs() -> None:
    assert {s.name.replace("-", "_") for s in STAGES} == set(MODULES)
    commands = {
        c.name or (c.callback.__name__.replace("_", "-") if c.callback else "") for c in run_app.registered_commands
    }
    assert {s.name for s in STAGES} == commands - {"all"}
    assert {Role(s.role.value) for s in STAGES} == set(Role) & {Role(s.role.value) for s in STAGES}
    reading = {r for t in TOPICS for r in t.readers} & {s.role for s in STAGES}
    assert {s.role for s in STAGES if s.topics()} == reading


def test_every_process_is_in_the_compose_file_and_asked_by_prometheus() -> None:
    services = document("compose.yaml")["services"]
    # What answers recipients needs certificates of theirs.
    wanted = processes() - {"portability-api"}
    assert wanted <= set(services)
    [scrape] = document("compose/prometheus.yml")["scrape_configs"]
    assert {t.partition(":")[0] for group in scrape["static_configs"] for t in group["targets"]} == wanted | {"console"}
    for name in (*wanted, "console"):
        service = services[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["command"][0] == ("console" if name == "console" else "run")
        assert service["healthcheck"], name


def test_every_command_of_the_compose_file_is_one() -> None:
    for name, service in document("compose.yaml")["services"].items():
        if service.get("image") == "mypay-gateway:local" and "command" in service:
            noun = service["command"][0].replace("-", "_")
            assert noun in {*_NOUNS, "console"}, name


OURS = "mypay-gateway:local"


def test_the_image_is_built_once_and_before_anybody_starts() -> None:
    services = document("compose.yaml")["services"]
    ours = {name: s for name, s in services.items() if s["image"] == OURS}
    # Who builds one name side by side fails on a machine that has not got it yet.
    assert [name for name, s in ours.items() if "build" in s] == ["certificates"]
    assert {s.get("pull_policy") for name, s in ours.items() if name != "certificates"} == {"never"}
    assert (DEPLOY / services["certificates"]["build"]["context"] / "deploy" / "Dockerfile").is_file()


def needs_before(services: dict[str, Any], name: str) -> set[str]:
    direct = services[name].get("depends_on", {})
    return {*direct, *(n for d in direct for n in needs_before(services, d))}


def test_nobody_starts_before_its_folders_tables_and_topics_are_there() -> None:
    services = document("compose.yaml")["services"]
    for name in processes() - {"portability-api"} | {"console", "tools"}:
        assert needs_before(services, name) == {"certificates", "kafka", "postgres", "setup"}, name
    for service in ("setup", "kafka", "postgres", "simulator"):
        assert "certificates" in needs_before(services, service)
    # A service that ends is waited for as one that does: `up --wait` takes any other for failed.
    for name, service in services.items():
        for needed, how in service["depends_on"].items() if isinstance(service.get("depends_on"), dict) else ():
            ends = services[needed].get("restart") is None
            wanted = "service_completed_successfully" if ends else "service_healthy"
            assert how["condition"] == wanted, (name, needed)
            assert ends or services[needed]["healthcheck"], needed


def test_every_part_of_a_volume_is_made_by_the_first_service_for_who_uses_it() -> None:
    services = document("compose.yaml")["services"]
    script = services["certificates"]["entrypoint"][-1]
    # In the file a "$" would be Compose's own.
    assert "$" not in script + services["setup"]["entrypoint"][-1]
    for name, service in services.items():
        for volume in (v for v in service.get("volumes", []) if v["type"] == "volume"):
            part = volume.get("volume", {}).get("subpath")
            if part is not None:
                # Docker would copy what the image has there while the part does not exist yet.
                assert volume["volume"]["nocopy"] is True, (name, volume)
                assert volume["source"] == "certificates" or f"/keys/{part}" in script, (name, part)
            elif service["image"] == OURS and not volume.get("read_only") and name != "certificates":
                assert f"/{volume['source']}" in script.partition("chown -R 10001:10001")[2].partition("\n")[0], name


def test_the_folders_of_keys_are_such_as_the_program_takes(tmp_path: Path) -> None:
    """The first service's own words, on a folder of this test's: what `mypay keys create` is then given."""
    script = document("compose.yaml")["services"]["certificates"]["entrypoint"][-1]
    words = [line for line in script.splitlines() if line.startswith(("mkdir", "chmod"))]
    text = "\n".join(words).replace("/keys", str(tmp_path))
    subprocess.run(["sh", "-euc", f"umask 022\n{text}"], check=True)
    folders = {f.partition("/")[0] for s in STAGES for f in s.folders().values()} - {"clearing"}
    assert {p.name for p in tmp_path.iterdir()} == folders
    for folder in tmp_path.iterdir():
        MasterKeys.create(folder)


def test_health_is_asked_with_what_each_image_has() -> None:
    has = {OURS: {"python"}, "apache": {"bash"}, "postgres": {"pg_isready"}}
    for name, service in document("compose.yaml")["services"].items():
        if "healthcheck" in service:
            kind, program, *_ = service["healthcheck"]["test"]
            image = service["image"]
            assert kind == "CMD", name
            assert program in has[image if image in has else re.split("[/:]", image)[0]], name


def test_no_two_services_take_one_port_of_this_machine_and_none_is_open_to_others() -> None:
    services = document("compose.yaml")["services"]
    ports = [p for s in services.values() for p in s.get("ports", [])]
    assert all(p.startswith("127.0.0.1:") for p in ports)
    assert len({p.split(":")[1] for p in ports}) == len(ports)


def test_the_dockerfile_holds_to_what_linters_ask() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    words = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    stages = [rest for word, rest in words if word == "FROM"]
    assert all(re.search(r":[\w.-]+( AS \w+)?$", s) for s in stages), "a tag for each (DL3006, DL3007)"
    assert not [w for w, _ in words if w in {"ADD", "MAINTAINER"}], "COPY, and labels (DL3020, DL4000)"
    assert not re.search(r"\b(sudo|apt-get upgrade|chmod 777|curl|wget)\b", text)
    for word, rest in words:
        if word in {"ENTRYPOINT", "CMD"}:
            assert rest.startswith("["), "the program itself, not a shell, gets SIGTERM (DL3025)"
        if word == "WORKDIR":
            assert rest.startswith("/"), "DL3000"
        if word == "COPY" and not rest.startswith("--from"):
            source = rest.split()[0]
            assert (DEPLOY.parent / source).exists(), source
            kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
            assert any(source == k[1:] or source.startswith(f"{k[1:]}/") for k in kept if k.startswith("!")), source
    assert [w for w, _ in words if w == "USER"], "DL3002"
    assert all("pip install" not in r or "--require-hashes" in r or "--no-deps" in r for _, r in words), "DL3013"


def hadolint(text: str) -> str:
    program = str(HADOLINT) if HADOLINT.is_file() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: `make tools` gets it")
    ran = subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False, timeout=60)
    return ran.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert hadolint(text) == ""
    assert "DL3004" in hadolint(f"{text}\nRUN sudo true\n"), "it finds what is planted"


def test_no_process_has_keys_of_another() -> None:
    services = document("compose.yaml")["services"]
    mounted = {
        stage.name: {v["volume"]["subpath"] for v in services[name]["volumes"] if v["source"] == "keys"}
        for stage in STAGES
        for name in processes() - {"portability-api"}
        if name.startswith(stage.name) and (name == stage.name or stage.per_network)
    }
    assert mounted["relay"] == set()
    assert mounted["execution"] == {"cards", "dead-letter", "internal"}
    assert [name for name, folders in mounted.items() if "cards" in folders] == ["execution"]
    assert [name for name, folders in mounted.items() if "disclosure" in folders] == ["disclosure"]


WHOLE = {"certificates", "setup", "tools"}
"""What makes keys, and what people run any command in."""


def test_no_service_has_more_rings_than_its_process_holds() -> None:
    holds = {name.replace("_", "-"): {ring.value for ring in rings} for name, rings in RINGS_OF.items()}
    own = {s.name: {f.partition("/")[0] for f in s.folders().values()} - {"clearing"} for s in STAGES}
    for service, told in document("compose.yaml")["services"].items():
        command = [*told.get("command", []), ""]
        name = command[1] if command[0] == "run" else command[0]
        mounts = [v for v in told.get("volumes", []) if v["source"] == "keys"]
        if service in WHOLE:
            continue
        assert all(v["read_only"] for v in mounts), service
        mounted = {v.get("volume", {}).get("subpath", "all") for v in mounts}
        assert mounted <= holds.get(name, set()) | own.get(name, set()), service
        # Nor is it told of a folder that it has not.
        told_of = {v for v in told.get("environment", {}).values() if (v or "").startswith("/var/lib/mypay/keys/")}
        assert {v.split("/")[5] for v in told_of} == mounted, service


def test_no_service_has_certificates_of_others(tmp_path: Path) -> None:
    mypay("deploy", "certificates", tmp_path / "made", *(w for n in NETWORKS for w in ("--network", n))).expect()
    for service, told in document("compose.yaml")["services"].items():
        folders = {v.get("volume", {}).get("subpath") for v in told.get("volumes", []) if v["source"] == "certificates"}
        if service in WHOLE:
            continue
        assert folders <= {service}, service
        assert all((tmp_path / "made" / folder).is_dir() for folder in folders), service
        # Each that an address or a folder of credentials names is there.
        addresses = " ".join(str(v) for v in told.get("environment", {}).values())
        for file in re.findall(r"/etc/mypay/certificates/([a-z_.-]+)", addresses):
            assert (tmp_path / "made" / service / file).is_file(), (service, file)
    assert {p.name for p in (tmp_path / "made" / "console").glob("*.key")} == {
        *("mypay-ops.key", "mypay_console.key", "mypay_operator.key", "mypay_readonly.key")
    }


def test_each_process_is_given_every_file_that_it_reads_by_the_compose_file_and_its_unit() -> None:
    services = document("compose.yaml")["services"]
    assert files_read_by(next(s for s in STAGES if s.name == "settlement")) >= {
        *("MYPAY_CLEARING_KEYS_DIR", "MYPAY_CLEARING_INBOX", "MYPAY_CLEARING_STATE_DIR", "MYPAY_DEAD_LETTER_KEYS_DIR")
    }
    for stage in STAGES:
        needed = files_read_by(stage)
        unit = (DEPLOY / "systemd" / f"mypay-{stage.name}{'@' * stage.per_network}.service").read_text()
        assert needed <= set(re.findall(r"^Environment=(MYPAY_\w+)=", unit, re.MULTILINE)), stage.name
        # A setting of the process's own file wins: it is read later.
        assert unit.index("Environment=MYPAY_") < unit.index("EnvironmentFile=")
        for name in (n for n in services if n == stage.name or (stage.per_network and n.startswith(f"{stage.name}-"))):
            environment = services[name]["environment"]
            # There files come without seals, so no key is needed.
            unsealed = {"MYPAY_CLEARING_KEYS_DIR"} if environment.get("MYPAY_CLEARING_UNSEALED") else set()
            assert needed - unsealed <= environment.keys(), name
            # What it writes, and what it reads, is on a volume: nothing else lives longer than the container.
            targets = [v["target"] for v in services[name]["volumes"]]
            for setting in needed & environment.keys():
                assert any(environment[setting].startswith(t) for t in targets), (name, setting)


def test_what_is_mounted_is_there() -> None:
    for name, service in document("compose.yaml")["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert (DEPLOY / volume["source"]).exists(), (name, volume["source"])


def test_every_setting_that_is_named_is_one() -> None:
    named = {name: set(re.findall(r"\bMYPAY_[A-Z0-9_]*[A-Z0-9]\b", text)) for name, text in texts()}
    assert {name: unknown_settings(found) for name, found in named.items() if unknown_settings(found)} == {}
    assert any(named.values())


def test_every_yaml_file_can_be_read() -> None:
    for path in sorted(DEPLOY.rglob("*.y*ml")):
        if "templates" not in path.parts:
            assert list(yaml.safe_load_all(path.read_text())), path


def test_the_networks_of_the_compose_file_are_those_of_the_stages() -> None:
    assert sorted(load_networks(DEPLOY / "compose" / "networks")) == NETWORKS


def test_the_image_has_no_tools_and_no_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in final
    assert "apt-get install" not in text
    assert "pip install" not in final
    assert "--require-hashes" in text
    assert "latest" not in text


def test_no_image_is_latest_or_bitnamis() -> None:
    for name, text in texts():
        assert "bitnami" not in text.lower(), name
        assert ":latest" not in text, name


def test_the_lock_of_the_image_has_hashes_no_addresses_and_the_versions_of_the_whole_lock() -> None:
    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))

    text = (DEPLOY / "requirements.lock").read_text()
    assert "://" not in text
    here, whole = pins(DEPLOY / "requirements.lock"), pins(DEPLOY.parent / "requirements.lock")
    assert {name: version for name, version in here.items() if whole.get(name) != version} == {}
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[<>=~ ]", d)[0].lower() for d in project["dependencies"]}
    assert needed <= here.keys()
    assert "pytest" not in here


def test_every_process_has_a_unit() -> None:
    units = {p.name: p.read_text() for p in (DEPLOY / "systemd").glob("mypay*")}
    for stage in STAGES:
        unit = units[f"mypay-{stage.name}{'@' * stage.per_network}.service"]
        start = f"mypay run {stage.name}{' --network %i' * stage.per_network}\n"
        assert start in unit
        assert f"User=mypay-{stage.name}\n" in unit
    for name in processes() - {"portability-api"}:
        instance = re.sub(r"^execution-", "execution@", name)
        assert f"mypay-{instance}.service" in units["mypay.target"]


def test_the_archive_is_run_each_night_as_its_own_user_into_a_folder_of_its_own() -> None:
    timer = (DEPLOY / "systemd" / "mypay-archive.timer").read_text()
    unit = (DEPLOY / "systemd" / "mypay-archive.service").read_text()
    assert "OnCalendar=*-*-* " in timer
    assert "Persistent=true\n" in timer, "a machine that was off makes up for it"
    assert "User=mypay-archive\n" in unit
    assert re.search(r"^ExecStart=\S+/mypay archive run$", unit, re.MULTILINE)
    [folder] = re.findall(r"^Environment=MYPAY_ARCHIVE_DIR=/var/lib/(\S+)$", unit, re.MULTILINE)
    assert f"StateDirectory={folder}\n" in unit
    # What keeps a process in keeps this one in, too.
    kept_in = (DEPLOY / "systemd" / "mypay-relay.service").read_text().partition("\nNoNewPrivileges")[2]
    assert kept_in.partition("\n\n")[0] in unit


def test_certificates_are_one_folder_a_process_and_good_for_what_they_name(tmp_path: Path) -> None:
    out = tmp_path / "made"
    mypay("deploy", "certificates", out, "--network", "bcard", "--partner", "shop-pay").expect()
    folders = {p.name for p in out.iterdir()}
    assert folders == {*processes(), "kafka", "postgres", "operator", "console", "partner-shop-pay"}
    assert {p.name for p in (out / "relay").iterdir()} == {
        *("ca.pem", "mypay-relay.crt", "mypay-relay.key", "mypay_relay.crt", "mypay_relay.key")
    }
    for key in out.rglob("*.key"):
        assert key.stat().st_mode & 0o077 == 0, key
    assert len({(out / f / "ca.pem").read_bytes() for f in folders}) == 1
    # The broker is its controller's client as well, under one certificate: Java takes none that says otherwise.
    server, client = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    for folder, name, wanted in (
        *(("kafka", "server", {server, client}), ("postgres", "server", {server})),
        ("relay", "mypay-relay", {client}),
    ):
        certificate = x509.load_pem_x509_certificate((out / folder / f"{name}.crt").read_bytes())
        assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == wanted, folder
    assert "not empty" in mypay("deploy", "certificates", out).expect(2).err


def test_the_image_has_what_the_archive_and_the_console_need() -> None:
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    here = set(re.findall(r"^([a-z0-9_.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE))
    for extra in ("archive", "console"):
        assert {re.split(r"[\[<>=~ ]", d)[0].lower() for d in extras[extra]} <= here, extra


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker compose is not installed",
)
def test_docker_reads_the_compose_file() -> None:
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def lines_of(name: str, kind: str) -> list[list[str]]:
    text = (DEPLOY / "systemd" / name).read_text()
    return [line.split() for line in text.splitlines() if line.startswith(f"{kind} ")]


def test_every_units_user_and_folders_are_made() -> None:
    users = {line[1] for line in lines_of("mypay.sysusers.conf", "u")}
    assert {(user, "mypay") for user in users} == {(line[1], line[2]) for line in lines_of("mypay.sysusers.conf", "m")}
    folders = {line[1]: line[2:] for line in lines_of("mypay.tmpfiles.conf", "d")}
    needed = set()
    for path in (DEPLOY / "systemd").glob("*.service"):
        unit = path.read_text()
        [user] = re.findall(r"^User=(.*)$", unit, re.MULTILINE)
        needed.add(user)
        # Without a folder of these systemd does not start the unit.
        for folder in re.findall(r"^(?:WorkingDirectory|ReadWritePaths)=(.*)$", unit, re.MULTILINE):
            assert folder in folders, (path.name, folder)
        for place in re.findall(r"^Environment=MYPAY_\w+=/etc/mypay/keys/(.*)$", unit, re.MULTILINE):
            own = place.partition("/")[0]
            assert folders[f"/etc/mypay/keys/{own}"] == ["0700", user, "mypay"], path.name
        for place in re.findall(r"^Environment=MYPAY_CLEARING_(?:INBOX|STATE_DIR)=(.*)$", unit, re.MULTILINE):
            assert folders[place][1] == user, path.name
    assert users == needed


@pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None or shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0,
    reason="systemd is not installed, or may give folders to nobody else here",
)
def test_systemd_makes_the_users_and_folders(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, options, name in (
        ("systemd-sysusers", (), "mypay.sysusers.conf"),
        ("systemd-tmpfiles", ("--create",), "mypay.tmpfiles.conf"),
    ):
        command = [program, f"--root={tmp_path}", *options, str(DEPLOY / "systemd" / name)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
    assert "mypay-relay:" in (tmp_path / "etc" / "passwd").read_text()
    keys = tmp_path / "etc" / "mypay" / "keys" / "execution"
    assert keys.stat().st_mode & 0o777 == 0o700


def test_systemd_reads_the_units() -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(p) for p in sorted((DEPLOY / "systemd").glob("mypay-*.*")) if "@" not in p.name]
    ran = subprocess.run([verify, "verify", *units], capture_output=True, text=True, check=False)
    unknown = [line for line in ran.stderr.splitlines() if "Unknown" in line or "Failed to parse" in line]
    assert unknown == []
