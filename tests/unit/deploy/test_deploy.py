"""The files of deploy/: what the code says, whole, and nothing that the program would refuse."""

import json
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

from gateway.app.keys import RINGS_OF
from gateway.app.settings import unknown_settings
from gateway.app.stages import STAGES
from gateway.cli import _NOUNS
from gateway.cli.run import app as run_app
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from schemas.topics import TOPICS
from streams.__main__ import STAGES as MODULES
from tests.support.cli import mypay

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "mypay"
NETWORKS = sorted(load_networks(DEPLOY / "networks"))


def document(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


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


def test_the_table_of_stages_is_the_programs() -> None:
    assert {s.name.replace("-", "_") for s in STAGES} == set(MODULES)
    commands = {
        c.name or (c.callback.__name__.replace("_", "-") if c.callback else "") for c in run_app.registered_commands
    }
    assert {s.name for s in STAGES} == commands - {"all"}
    assert {Role(s.role.value) for s in STAGES} == set(Role) & {Role(s.role.value) for s in STAGES}
    reading = {r for t in TOPICS for r in t.readers} & {s.role for s in STAGES}
    assert {s.role for s in STAGES if s.topics()} == reading


def processes() -> set[str]:
    return {f"{s.name}-{n}" if s.per_network else s.name for s in STAGES for n in (NETWORKS if s.per_network else [""])}


def test_every_process_is_in_the_compose_file_and_asked_by_prometheus() -> None:
    services = document("compose.yaml")["services"]
    # What answers recipients needs certificates of theirs.
    wanted = processes() - {"portability-api"}
    assert wanted <= set(services)
    [scrape] = document("compose/prometheus.yml")["scrape_configs"]
    assert {t.partition(":")[0] for group in scrape["static_configs"] for t in group["targets"]} == wanted
    for name in wanted:
        service = services[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["command"][0] == "run"
        assert service["healthcheck"], name


def test_every_command_of_the_compose_file_is_one() -> None:
    for name, service in document("compose.yaml")["services"].items():
        if service.get("image") == "mypay-gateway:local" and "command" in service:
            noun = service["command"][0].replace("-", "_")
            assert noun in {*_NOUNS, "console"}, name


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
        told_of = {v for v in told.get("environment", {}).values() if v.startswith("/var/lib/mypay/keys/")}
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
    assert "not empty" in mypay("deploy", "certificates", out).expect(2).err


# --- the chart --------------------------------------------------------------------------------------------------------

HELM = os.environ.get("HELM") or shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not installed")

EVERYTHING = {
    "archive": {"enabled": True, "claim": "archive"},
    "autoscaling": {"enabled": True},
    "kafka": {"strimzi": {"enabled": True}},
    "monitoring": {"serviceMonitor": True, "prometheusRule": True},
    "stages": {
        "portability-api": {"enabled": True, "tlsSecret": "api-tls"},
        "settlement": {"clearingClaim": "clearing"},
    },
    "issuers": {"policy.toml": "a"},
    "networkTlsSecret": "network-tls",
}


def helm(*arguments: str, given: dict[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
    assert HELM is not None
    version = ["--kube-version", "1.31.0"] if arguments[0] == "template" else []
    command = [HELM, *arguments, *version, "-f", "-"]
    return subprocess.run(command, input=json.dumps(given or {}), capture_output=True, text=True, check=False)


def manifests(given: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    ran = helm("template", "mypay", str(CHART), given=given)
    assert ran.returncode == 0, ran.stderr
    return [m for m in yaml.safe_load_all(ran.stdout) if m]


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in found if m["kind"] == kind}


@needs_helm
@pytest.mark.parametrize("given", [{}, EVERYTHING], ids=["as it comes", "everything"])
def test_the_chart_can_be_rendered_and_has_every_process(given: dict[str, Any]) -> None:
    ran = helm("lint", str(CHART), given=given)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = manifests(given)
    wanted = processes() - (set() if given else {"portability-api"})
    deployments = of_kind(found, "Deployment")
    assert set(deployments) == {f"mypay-{name}" for name in wanted}
    assert set(of_kind(found, "PodDisruptionBudget")) == set(deployments)
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys()
        names = [e["name"] for e in container["env"]]
        assert len(names) == len(set(names)), name
        assert unknown_settings(n for n in names if n.startswith("MYPAY_")) == []
        mounted = {v["name"] for part in ("initContainers", "containers") for c in pod[part] for v in c["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"]}, name
    assert len(of_kind(found, "Job")) == 1
    assert of_kind(found, "NetworkPolicy")


def pod_of(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    pod: dict[str, Any] = of_kind(found, "Deployment")[f"mypay-{name}"]["spec"]["template"]["spec"]
    return pod


def mounts(container: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["mountPath"] for v in container["volumeMounts"]}


@needs_helm
def test_nothing_is_mounted_within_what_is_only_read() -> None:
    """The runtime could not make the place for it, and the pod would never start."""
    found = manifests(EVERYTHING)
    for name in processes():
        pod = pod_of(found, name)
        for container in (*pod["initContainers"], *pod["containers"]):
            places = list(mounts(container).values())
            assert [(a, b) for a in places for b in places if a.startswith(f"{b}/")] == [], name


@needs_helm
def test_networks_keys_are_copied_for_execution_alone() -> None:
    found = manifests(EVERYTHING)
    having = [name for name in processes() if "network-tls" in {v["name"] for v in pod_of(found, name)["volumes"]}]
    assert having == [f"execution-{n}" for n in NETWORKS]
    [given] = pod_of(found, having[0])["initContainers"]
    assert mounts(given)["network-tls"] == "/given/network-tls"
    assert mounts(given)["secrets"] == "/etc/mypay"
    assert "umask 077" in given["command"][-1]
    assert "network-tls" not in mounts(pod_of(found, having[0])["containers"][0])


@needs_helm
def test_the_api_listens_to_others_with_the_certificates_that_it_is_given() -> None:
    for given, clients in ((EVERYTHING, "api-tls"), ({"clientsCaSecret": "recipients-ca"}, "recipients-ca")):
        api = {"enabled": True, "tlsSecret": "api-tls"}
        stages = {"stages": {"portability-api": api | given}} if given is not EVERYTHING else {}
        found = manifests(EVERYTHING | stages)
        pod = pod_of(found, "portability-api")
        [init], [container] = pod["initContainers"], pod["containers"]
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["MYPAY_PORTABILITY_API_HOST"] == "0.0.0.0"
        assert {"name": "api", "containerPort": int(env["MYPAY_PORTABILITY_API_PORT"])} in container["ports"]
        # What the settings name is what the init container copies there.
        secrets = {v["name"]: v["secret"] for v in pod["volumes"] if "secret" in v}
        copied = {
            place.replace("/given/", "/etc/mypay/") + "/" + item["path"]: secrets[name]["secretName"]
            for name, place in mounts(init).items()
            for item in secrets.get(name, {}).get("items", [])
        }
        assert copied[env["MYPAY_PORTABILITY_API_CERTIFICATE_FILE"]] == "api-tls"
        assert copied[env["MYPAY_PORTABILITY_API_KEY_FILE"]] == "api-tls"
        assert copied[env["MYPAY_PORTABILITY_API_CLIENTS_FILE"]] == clients
        assert not any("PORTABILITY_API_HOST" in str(pod_of(found, n)) for n in processes() - {"portability-api"})
    ran = helm("template", "mypay", str(CHART), given={"stages": {"portability-api": {"enabled": True}}})
    assert "tlsSecret names the Secret" in ran.stderr


def test_what_processes_may_reach_has_a_port() -> None:
    values = document("helm/mypay/values.yaml")
    rules = values["networkPolicy"]["egress"]
    assert all(rule.get("ports") for rule in rules), "a rule without ports lets everything out"
    ports = {p["port"] for rule in rules for p in rule["ports"]}
    hosts = [h for text in values["networks"].values() for h in tomllib.loads(text)["addresses"]]
    needed = {int(h.rpartition(":")[2]) for h in (values["kafka"]["bootstrapServers"], *hosts)}
    assert ports == needed | {values["postgres"]["port"], 443}


@needs_helm
def test_the_network_policy_lets_nothing_else_out() -> None:
    egress = of_kind(manifests(EVERYTHING), "NetworkPolicy")["mypay"]["spec"]["egress"]
    assert all(rule.get("ports") for rule in egress)


@needs_helm
def test_the_archive_is_run_each_night_on_a_volume_one_at_a_time() -> None:
    assert of_kind(manifests(), "CronJob") == {}
    [job] = of_kind(manifests(EVERYTHING), "CronJob").values()
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"][-1].endswith("mypay archive run")
    env = {e["name"]: e["value"] for e in container["env"]}
    assert unknown_settings(env) == []
    assert len(env) == len(container["env"])
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert mounts(container).keys() == volumes.keys()
    assert mounts(container)["archive"] == env["MYPAY_ARCHIVE_DIR"]
    assert volumes["archive"]["persistentVolumeClaim"] == {"claimName": "archive"}
    assert f"//{Role.ARCHIVE.user}@" in env["MYPAY_POSTGRES_DSN_ARCHIVE"]
    assert volumes["user"]["secret"] == {"secretName": f"mypay-db-{Role.ARCHIVE.user}".replace("_", "-")}
    ran = helm("template", "mypay", str(CHART), given={"archive": {"enabled": True}})
    assert "archive.claim names the volume" in ran.stderr


def test_the_image_has_what_the_archive_and_the_console_need() -> None:
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    here = set(re.findall(r"^([a-z0-9_.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE))
    for extra in ("archive", "console"):
        assert {re.split(r"[\[<>=~ ]", d)[0].lower() for d in extras[extra]} <= here, extra


@needs_helm
def test_keda_scales_by_lag_never_to_nothing_never_above_the_partitions() -> None:
    found = manifests(EVERYTHING)
    scaled = of_kind(found, "ScaledObject")
    partitions = {t["metadata"]["name"]: t["spec"]["partitions"] for t in found if t["kind"] == "KafkaTopic"}
    assert {n.removeprefix("mypay-") for n in scaled} >= {"initiation", "consents", "execution-bcard", "settlement"}
    for name, each in scaled.items():
        spec = each["spec"]
        topics = [t["metadata"]["topic"] for t in spec["triggers"]]
        assert spec["minReplicaCount"] >= 1
        assert spec["maxReplicaCount"] == max(partitions[t] for t in topics), name
        assert "replicas" not in of_kind(found, "Deployment")[name]["spec"], "KEDA sets them"
    ran = helm("template", "mypay", str(CHART), given={"autoscaling": {"enabled": True, "minReplicas": 0}})
    assert "minReplicas is 1 at least" in ran.stderr


@needs_helm
def test_the_charts_topics_and_users_are_those_of_the_tables() -> None:
    found = manifests(EVERYTHING)
    assert "mypay.orders" in of_kind(found, "KafkaTopic")
    assert "mypay.dispatch.bcard" in of_kind(found, "KafkaTopic")
    users = of_kind(found, "KafkaUser")
    assert all(
        m["apiVersion"] == "kafka.strimzi.io/v1" for m in (*users.values(), *of_kind(found, "KafkaTopic").values())
    )
    for name in processes():
        assert f"mypay-{name}" in users, "Kubernetes' names have no underscore"
    [reads] = [
        a for a in users["mypay-relay"]["spec"]["authorization"]["acls"] if a["resource"].get("name") == "mypay.events."
    ]
    assert reads == {
        "resource": {"type": "topic", "name": "mypay.events.", "patternType": "prefix"},
        "operations": ["Write"],
    }


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker compose is not installed",
)
def test_docker_reads_the_compose_file() -> None:
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_systemd_reads_the_units() -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(p) for p in sorted((DEPLOY / "systemd").glob("mypay-*.*")) if "@" not in p.name]
    ran = subprocess.run([verify, "verify", *units], capture_output=True, text=True, check=False)
    unknown = [line for line in ran.stderr.splitlines() if "Unknown" in line or "Failed to parse" in line]
    assert unknown == []
