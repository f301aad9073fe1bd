"""Three ways to deploy: each has every process, and gives it what the others give it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.app.settings import Settings
from tests.support.cli import mypay
from tests.support.deployments import (
    DEPLOY,
    EVERYTHING,
    NETWORKS,
    document,
    environment,
    manifests,
    needs_helm,
    of_kind,
    pod_of,
    processes,
)

ALL = processes() | {"console", "archive"}

LACKS = {
    "compose": {
        "portability-api": "recipients' certificates are theirs",
        "archive": "nothing there is old enough for it",
    },
    "chart": {},
    "units": {},
}
"""Deployment → process → why it is not there."""

OWN = {
    "compose": {
        "MYPAY_ALLOW_NO_PROOF": "it has no identity provider",
        "MYPAY_CLEARING_UNSEALED": "its simulated network seals nothing",
        "MYPAY_OTEL_ENDPOINT": "handed on; the chart has a place for settings",
        "MYPAY_OTEL_RATIO": "likewise",
    },
    "chart": {
        "MYPAY_ISSUERS_DIR": "in place of MYPAY_ALLOW_NO_PROOF",
        "MYPAY_CLEARING_KEYS_DIR": "in place of MYPAY_CLEARING_UNSEALED",
        "MYPAY_LOG_FORMAT": "the default of the values' settings",
        "MYPAY_CONSOLE_PORT": "the default, in compose's file too",
        "MYPAY_CONSOLE_PROXY_ADDRESSES": "nothing speaks TLS in front of compose's",
        "MYPAY_CONSOLE_OIDC_ISSUER": "it has no identity provider",
        "MYPAY_CONSOLE_OIDC_CLIENT_ID": "likewise",
        "MYPAY_CONSOLE_OIDC_CLIENT_SECRET": "likewise",
    },
}
"""Deployment → setting that it alone gives → why."""

OF_THE_MACHINE = re.compile(
    "MYPAY_(KAFKA|POSTGRES|HTTP|CONSOLE|OTEL|LOG|ISSUERS|ALLOW_NO_PROOF|PORTABILITY_API_(HOST|PORT))"
)
"""With systemd these come from files in /etc/mypay."""


def compose_services() -> dict[str, Any]:
    services: dict[str, Any] = document("compose.yaml")["services"]
    return services


def compose(name: str) -> tuple[str, set[str]]:
    """What a process is started with, and the settings that it is given."""
    service = compose_services()[name]
    return " ".join(service["command"]), ours(service["environment"])


def chart(name: str) -> tuple[str, set[str]]:
    found = manifests(EVERYTHING)
    if name == "archive":
        pod = of_kind(found, "CronJob")["mypay-archive"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        command = container["command"][-1].partition("exec mypay ")[2]
    else:
        [container] = pod_of(found, name)["containers"]
        command = " ".join(container["args"])
    return command, ours(environment(container))


def unit(name: str) -> tuple[str, set[str]]:
    network = next((n for n in NETWORKS if name == f"execution-{n}"), "")
    path = DEPLOY / "systemd" / f"mypay-{'execution@' if network else name}.service"
    text = path.read_text().replace("%i", network)
    [command] = re.findall(r"^ExecStart=\S+/mypay (.*)$", text, re.MULTILINE)
    return command, ours(dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE)))


def check_values(settings: Mapping[str, object]) -> None:
    """Let the program read them, as it does at its start."""
    told = {
        n.removeprefix("MYPAY_").lower(): v for n, v in settings.items() if n.startswith("MYPAY_") and v is not None
    }
    Settings(_env_file=None, **told)


def ours(settings: Mapping[str, object]) -> set[str]:
    return {name for name in settings if name.startswith("MYPAY_")}


def test_each_deployment_has_every_process_or_says_why_not() -> None:
    services, units = set(compose_services()), {p.name for p in (DEPLOY / "systemd").glob("*.service")}
    assert {p for p in ALL if p not in services} == set(LACKS["compose"])
    named = {re.sub("^execution-.*", "execution@", p) for p in ALL}
    assert {f"mypay-{p}.service" for p in named} == units


def test_the_program_reads_every_value_of_the_compose_file_and_of_units() -> None:
    for service in compose_services().values():
        check_values(service.get("environment", {}))
    for path in (DEPLOY / "systemd").glob("*.service"):
        text = path.read_text().replace("%H", "machine").replace("%i", NETWORKS[0])
        check_values(dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE)))


@needs_helm
def test_the_program_reads_every_value_of_the_chart() -> None:
    found = manifests(EVERYTHING)
    pods = [m["spec"]["template"]["spec"] for kind in ("Deployment", "Job") for m in of_kind(found, kind).values()]
    pods += [m["spec"]["jobTemplate"]["spec"]["template"]["spec"] for m in of_kind(found, "CronJob").values()]
    assert len(pods) == len(ALL) + 2
    for pod in pods:
        check_values(environment(pod["containers"][0]))


@needs_helm
def test_the_chart_has_every_process() -> None:
    found = manifests(EVERYTHING)
    there = {*of_kind(found, "Deployment"), *of_kind(found, "CronJob")}
    # People's commands run in it, as in compose's service of that name.
    assert there == {f"mypay-{p}" for p in ALL} | {"mypay-tools"}


@needs_helm
@pytest.mark.parametrize("process", sorted(ALL - set(LACKS["compose"])))
def test_a_process_is_given_the_same_by_the_compose_file_and_the_chart(process: str) -> None:
    (here, given_here), (there, given_there) = compose(process), chart(process)
    assert here == there
    assert given_here - given_there <= set(OWN["compose"])
    assert given_there - given_here <= set(OWN["chart"])


@needs_helm
def test_what_one_deployment_alone_gives_is_given_there() -> None:
    """A difference that is no more is taken out of the table."""
    both = [(compose(p)[1], chart(p)[1]) for p in ALL - set(LACKS["compose"])]
    assert set(OWN["compose"]) == {s for here, there in both for s in here - there}
    assert set(OWN["chart"]) == {s for here, there in both for s in there - here}


@needs_helm
@pytest.mark.parametrize("process", sorted(ALL))
def test_a_process_is_given_the_same_by_its_unit_and_the_chart(process: str) -> None:
    (here, given_here), (there, given_there) = unit(process), chart(process)
    assert here == there
    differing = {s for s in given_here ^ given_there if not OF_THE_MACHINE.match(s)}
    # A unit names itself by its machine, also where the chart has nothing that a name is needed for.
    assert differing <= {"MYPAY_WORKER"}


@needs_helm
def test_a_process_is_the_same_users_in_the_compose_file_and_the_chart(tmp_path: Path) -> None:
    """By its certificates: of Kafka's user and of the database's."""
    out = tmp_path / "made"
    mypay("deploy", "certificates", out, *(word for n in NETWORKS for word in ("--network", n))).expect()
    found = manifests(EVERYTHING)
    for name in ALL - set(LACKS["compose"]):
        volumes = {v["name"]: v["secret"]["secretName"] for v in pod_of(found, name)["volumes"] if "secret" in v}
        held = {
            volumes["kafka-user"],
            *(s.removeprefix("mypay-db-") for s in volumes.values() if "mypay-db-mypay" in s),
        }
        # Kubernetes' names have no "_": there the database's users are told from Kafka's by the Secret's prefix.
        assert held == {key.stem.replace("_", "-") for key in (out / name).glob("*.key")}, name
