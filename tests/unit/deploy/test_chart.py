"""The chart: every process, with what it needs and nothing of another's."""

import re
import subprocess
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from gateway.app.environment import unknown_settings
from gateway.app.policy import JUDGING
from gateway.app.settings import Settings
from gateway.app.stages import STAGES
from gateway.console.serving import check_address
from gateway.database.roles import Role
from gateway.messaging.topics_admin import topic_configuration
from gateway.network.iso8583.config import load_networks
from gateway.sealing.sealing import MasterKeys
from schemas.access import Pattern, Resource, acls, quotas
from schemas.principals import principals
from schemas.topics import concrete_topics
from tests.support.deployments import (
    CHART,
    DEPLOY,
    EVERYTHING,
    NETWORKS,
    environment,
    files_read_by,
    helm,
    manifests,
    mounts,
    needs_helm,
    of_kind,
    pod_of,
    processes,
    refused,
)


@needs_helm
@pytest.mark.parametrize("given", [{}, EVERYTHING], ids=["as it comes", "everything"])
def test_the_chart_can_be_rendered_and_has_every_process(given: dict[str, Any]) -> None:
    ran = helm("lint", str(CHART), given=given)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = manifests(given)
    wanted = processes() | {"console"} if given else processes() - {"portability-api"}
    deployments = of_kind(found, "Deployment")
    # No process of the gateway's: people's commands run in it.
    assert ("mypay-tools" in deployments) == bool(given)
    tools = deployments.pop("mypay-tools", None)
    assert set(deployments) == {f"mypay-{name}" for name in wanted}
    assert set(of_kind(found, "PodDisruptionBudget")) == set(deployments)
    for name, deployment in (*deployments.items(), *([("tools", tools)] if tools else [])):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert name == "tools" or {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys()
        names = [e["name"] for e in container["env"]]
        assert len(names) == len(set(names)), name
        assert unknown_settings(n for n in names if n.startswith("MYPAY_")) == []
        mounted = {v["name"] for part in ("initContainers", "containers") for c in pod[part] for v in c["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"]}, name
    assert len(of_kind(found, "Job")) == 1
    assert of_kind(found, "NetworkPolicy")


@needs_helm
def test_each_process_is_given_every_file_that_it_reads_by_the_chart() -> None:
    found = manifests(EVERYTHING)
    for stage in STAGES:
        for name in (n for n in processes() if n == stage.name or (stage.per_network and n.startswith(stage.name))):
            pod = pod_of(found, name)
            [init], [container] = pod["initContainers"], pod["containers"]
            env = environment(container)
            assert files_read_by(stage) <= env.keys(), name
            places = [*mounts(container).values()]
            for setting in files_read_by(stage):
                assert any(env[setting].startswith(p) for p in places), (name, setting)
                # Secrets are where the init container copies them to.
                if env[setting].startswith("/etc/mypay/keys-"):
                    folder = env[setting].split("/")[3]
                    assert mounts(init)[folder] == f"/given/{folder}", (name, setting)


@needs_helm
def test_clearing_files_are_taken_under_their_networks_keys_or_not_at_all() -> None:
    [init] = pod_of(manifests(EVERYTHING), "settlement")["initContainers"]
    assert mounts(init)["clearing-bcard"] == "/given-clearing/bcard"
    assert "/given-clearing/*" in init["command"][-1]
    claimed = {"stages": {"settlement": {"clearingClaim": "clearing"}}}
    assert "clearingKeys names the Secrets" in refused(claimed)
    unsealed = {"stages": {"settlement": {"clearingClaim": "c", "settings": {"MYPAY_CLEARING_UNSEALED": "1"}}}}
    assert pod_of(manifests(unsealed), "settlement")
    assert "/given-clearing/*" not in str(pod_of(manifests(EVERYTHING), "relay"))


@needs_helm
def test_nothing_is_mounted_within_what_is_only_read() -> None:
    """The runtime could not make the place for it, and the pod would never start."""
    found = manifests(EVERYTHING)
    for name in (*processes(), "console"):
        pod = pod_of(found, name)
        for container in (*pod["initContainers"], *pod["containers"]):
            places = list(mounts(container).values())
            assert [(a, b) for a in places for b in places if a.startswith(f"{b}/")] == [], name


@needs_helm
def test_secrets_are_copied_such_as_the_program_takes_them(tmp_path: Path) -> None:
    """The init container's own words, on folders of this test's with the links that Kubernetes mounts."""
    found = manifests(EVERYTHING)
    for name in ("execution-bcard", "settlement", "portability-api", "console", "tools"):
        [init] = pod_of(found, name)["initContainers"]
        root = tmp_path / name
        for place in mounts(init).values():
            folder = root / place.lstrip("/")
            folder.mkdir(parents=True)
            if place != "/etc/mypay":
                mounted(folder, files_of(place))
        script = init["command"][-1].replace("/given", f"{root}/given").replace("/etc/mypay", f"{root}/etc/mypay")
        subprocess.run(["sh", "-euc", f"umask 022\n{script}"], check=True)
        got = root / "etc" / "mypay"
        for path in got.rglob("*"):
            assert not path.is_symlink(), path
            assert path.stat().st_mode & 0o077 == 0, path
        for value in filter(None, environment(pod_of(found, name)["containers"][0]).values()):
            for told in re.findall(r"/etc/mypay/[\w./-]+", value):
                assert (root / told.lstrip("/")).exists(), (name, told)
        for keys in got.glob("keys-*"):
            assert len(MasterKeys.load(keys)) == 1, (name, keys)
        user = {"console": "mypay-ops", "tools": "mypay-admin"}.get(name, f"mypay-{name.replace('-api', '_api')}")
        assert {f"{user}.crt", f"{user}.key"} <= {p.name for p in (got / "kafka").iterdir()}, name


def files_of(place: str) -> dict[str, bytes]:
    """What is in the Secret that is mounted there."""
    if "/keys-" in place:
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "ring"
            MasterKeys.create(folder)
            return {p.name: p.read_bytes() for p in folder.iterdir()}
    names = ("user.crt", "user.key") if "kafka/" in place else ("ca.crt", "tls.crt", "tls.key")
    return dict.fromkeys(names, b"a certificate or its key")


def mounted(folder: Path, files: dict[str, bytes]) -> None:
    """As Kubernetes mounts a Secret: links into a folder of this moment's, readable by the group."""
    now = folder / "..2026_11_27"
    now.mkdir()
    (folder / "..data").symlink_to(now.name)
    for name, content in files.items():
        (now / name).write_bytes(content)
        (now / name).chmod(0o440)
        (folder / name).symlink_to(f"..data/{name}")


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
        env = environment(container)
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
    assert "tlsSecret names the Secret" in refused({"stages": {"portability-api": {"enabled": True}}})


@needs_helm
def test_the_program_reads_the_networks_files(tmp_path: Path) -> None:
    for name, text in of_kind(manifests(), "ConfigMap")["mypay-networks"]["data"].items():
        (tmp_path / name).write_text(text)
    assert sorted(load_networks(tmp_path)) == NETWORKS


def test_what_processes_may_reach_has_a_port() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rules = values["networkPolicy"]["egress"]
    assert all(rule.get("ports") for rule in rules), "a rule without ports lets everything out"
    ports = {p["port"] for rule in rules for p in rule["ports"]}
    hosts = [h for text in values["networks"].values() for h in tomllib.loads(text)["addresses"]]
    needed = {int(h.rpartition(":")[2]) for h in hosts}
    assert ports == needed | {kafka_listener()["port"], values["postgres"]["port"], 443}


def example(name: str, kind: str) -> dict[str, Any]:
    """The manifest of that kind in an example."""
    text = (DEPLOY / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
    [found] = [m for m in yaml.safe_load_all(text) if m["kind"] == kind]
    return dict(found)


def kafka_listener() -> dict[str, Any]:
    """Where the example's brokers ask for certificates."""
    listeners = example("strimzi", "Kafka")["spec"]["kafka"]["listeners"]
    [found] = [one for one in listeners if one["authentication"]["type"] == "tls"]
    return dict(found)


@needs_helm
def test_the_examples_servers_are_those_that_the_chart_looks_for() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    kafka, database = example("strimzi", "Kafka"), example("cloudnativepg", "Cluster")
    cluster, at = kafka["metadata"]["name"], database["metadata"]["name"]
    assert cluster == values["kafka"]["strimzi"]["cluster"]
    for kind in ("KafkaNodePool", "KafkaUser"):
        assert example("strimzi", kind)["metadata"]["labels"]["strimzi.io/cluster"] == cluster
    env = environment(pod_of(manifests(), "relay")["containers"][0])
    assert env["MYPAY_KAFKA_BOOTSTRAP_SERVERS"] == f"{cluster}-kafka-bootstrap:{kafka_listener()['port']}"
    made = database["spec"]["bootstrap"]["initdb"]
    assert (f"{at}-rw", made["database"]) == (values["postgres"]["host"], values["postgres"]["database"])
    assert values["postgres"]["caSecret"] == f"{at}-ca"
    assert made["owner"] == Role.OWNER.user
    assert values["migration"]["ownerSecret"] == f"{at}-{Role.OWNER.user}".replace("_", "-")


@needs_helm
@pytest.mark.parametrize("own", [False, True], ids=["Strimzi's names", "names of one's own"])
def test_everybody_looks_for_the_kafka_that_is_named(own: bool) -> None:
    servers, ca = ("kafka.example:9094", "kafka-ca") if own else ("other-kafka-bootstrap:9093", "other-cluster-ca-cert")
    given = EVERYTHING["kafka"] | ({"bootstrapServers": servers, "clusterCaSecret": ca} if own else {})
    found = manifests(EVERYTHING | {"kafka": given | {"strimzi": given["strimzi"] | {"cluster": "other"}}})
    told, secrets = set(), set()
    for name in (*processes(), "console", "tools"):
        pod = pod_of(found, name)
        told.add(environment(pod["containers"][0])["MYPAY_KAFKA_BOOTSTRAP_SERVERS"])
        secrets |= {v["secret"]["secretName"] for v in pod["volumes"] if v["name"] == "kafka-ca"}
    assert (told, secrets) == ({servers}, {ca})
    for each in of_kind(found, "ScaledObject").values():
        assert {t["metadata"]["bootstrapServers"] for t in each["spec"]["triggers"]} == {servers}
    for each in of_kind(found, "TriggerAuthentication").values():
        assert ca in {p["name"] for p in each["spec"]["secretTargetRef"]}
    strimzis = [m for m in found if m["apiVersion"].startswith("kafka.strimzi.io/")]
    assert {m["metadata"]["labels"]["strimzi.io/cluster"] for m in strimzis} == {"other"}


@needs_helm
def test_another_releases_name_and_namespace_change_no_name() -> None:
    """Topics, users and groups are the same for every gateway: what parts two of them is their Kafka and namespace."""

    def rendered(release: str, namespace: str) -> str:
        ran = helm(
            "template", release, str(CHART), "--namespace", namespace, "--kube-version", "1.31.0", given=EVERYTHING
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    other = rendered("payments", "pay")
    assert "namespace: pay" not in other
    assert other.replace("app.kubernetes.io/instance: payments", "app.kubernetes.io/instance: mypay") == rendered(
        "mypay", "default"
    )


@needs_helm
def test_the_network_policy_lets_nothing_else_out() -> None:
    egress = of_kind(manifests(EVERYTHING), "NetworkPolicy")["mypay"]["spec"]["egress"]
    assert all(rule.get("ports") for rule in egress)


@needs_helm
def test_an_empty_list_of_who_may_is_nobody() -> None:
    """To Kubernetes itself ``from: []`` is everybody."""
    found = of_kind(manifests({"networkPolicy": {"metricsFrom": [], "egress": []}}), "NetworkPolicy")
    assert found["mypay"]["spec"]["ingress"] == []
    assert [{p["port"] for p in rule["ports"]} for rule in found["mypay"]["spec"]["egress"]] == [{53}]
    for policy in of_kind(manifests(EVERYTHING), "NetworkPolicy").values():
        assert all(rule.get("from", [0]) for rule in policy["spec"]["ingress"]), policy["metadata"]["name"]


@needs_helm
def test_a_number_among_the_settings_comes_as_it_is_written() -> None:
    given = {"settings": {"MYPAY_OTEL_TRACES_PER_S": 12_345_678}, "console": {"enabled": True}}
    found = manifests(given | {"archive": {"enabled": True, "claim": "archive"}})
    for name in ("relay", "console"):
        assert environment(pod_of(found, name)["containers"][0])["MYPAY_OTEL_TRACES_PER_S"] == "12345678", name
    [job] = of_kind(found, "CronJob").values()
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert environment(container)["MYPAY_OTEL_TRACES_PER_S"] == "12345678"


@needs_helm
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"consoles": {"enabled": True}}, "consoles"),
        ({"console": {"enable": True}}, "enable"),
        ({"console": {"enabled": "true"}}, "console/enabled"),
        ({"console": {"oidc": {"secret": "s"}}}, "secret"),
        ({"stages": {"relays": {"replicas": 3}}}, "relays"),
        ({"stages": {"relay": {"replica": 3}}}, "replica"),
        ({"stages": {"relay": {"clearingClaim": "c"}}}, "clearingClaim"),
        ({"kafka": {"strimzi": {"partners": "shop-pay"}}}, "kafka/strimzi/partners"),
        ({"postgres": {"port": "5432"}}, "postgres/port"),
        ({"settings": {"MYPAY_LOG_FORMAT": {"a": "b"}}}, "settings/MYPAY_LOG_FORMAT"),
        ({"settings": {"log_format": "json"}}, "log_format"),
    ],
    ids=str,
)
def test_a_value_that_is_none_is_refused_by_name(given: dict[str, Any], told: str) -> None:
    # Helm 3 parts names by dots.
    assert told in refused(given).replace(".", "/")


@needs_helm
def test_every_stage_can_be_given_what_all_can() -> None:
    every = {
        "replicas": 3,
        "settings": {"MYPAY_LOG_LEVEL": "debug"},
        "envFromSecrets": ["more"],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"operator": "Exists"}],
    }
    tls = {"portability-api": {"tlsSecret": "t", "enabled": True}}
    found = manifests(
        {"stages": {s.name: every | tls.get(s.name, {}) for s in STAGES}, "imagePullSecrets": [{"name": "p"}]}
    )
    for name in processes():
        pod = pod_of(found, name)
        assert of_kind(found, "Deployment")[f"mypay-{name}"]["spec"]["replicas"] == 3
        assert pod["nodeSelector"] == {"disk": "fast"}
        assert pod["tolerations"] == every["tolerations"]
        assert pod["imagePullSecrets"] == [{"name": "p"}]
        [container] = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "more"}}]
        assert environment(container)["MYPAY_LOG_LEVEL"] == "debug"


@needs_helm
def test_who_has_installed_it_is_told_what_is_next() -> None:
    def notes(given: dict[str, Any]) -> str:
        ran = helm("install", "mypay", str(CHART), "--dry-run=client", given=given)
        if "cluster unreachable" in ran.stderr:
            pytest.skip("before version 4 Helm asks a cluster even to try")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.partition("\nNOTES:\n")[2]

    bare = notes({})
    assert "neither issuers nor MYPAY_ALLOW_NO_PROOF" in bare
    for name in JUDGING:
        assert name in bare.partition("WARNING")[2]
    assert "WARNING: bcard names files" in bare
    settings = {"settings": {"MYPAY_ALLOW_NO_PROOF": "1"}, "networkTlsSecret": "network-tls"}
    told = notes({"tools": {"enabled": True}, "console": {"enabled": True}} | settings)
    assert "WARNING" not in told
    assert "port-forward service/mypay-console 8088:80" in told
    assert "exec deploy/mypay-tools -- mypay auth policy apply" in told
    assert "https://console.example" in notes(dict(EVERYTHING))


# --- the console ------------------------------------------------------------------------------------------------------


@needs_helm
def test_the_console_is_there_where_it_is_asked_for() -> None:
    assert "mypay-console" not in {m["metadata"]["name"] for m in manifests()}
    found = manifests(EVERYTHING)
    kinds = {m["kind"] for m in found if m["metadata"]["name"] == "mypay-console"}
    assert kinds == {"Deployment", "Service", "Ingress", "NetworkPolicy", "PodDisruptionBudget"}
    [port] = of_kind(found, "Service")["mypay-console"]["spec"]["ports"]
    names = {p["name"]: p["containerPort"] for p in pod_of(found, "console")["containers"][0]["ports"]}
    assert names[port["targetPort"]] == 8088
    # The one Service that Prometheus asks has it among its pods.
    labels = of_kind(found, "Deployment")["mypay-console"]["spec"]["template"]["metadata"]["labels"]
    assert of_kind(found, "Service")["mypay-metrics"]["spec"]["selector"].items() <= labels.items()


@needs_helm
def test_the_console_is_its_four_users_and_has_the_keys_of_dead_letters_alone() -> None:
    pod = pod_of(manifests(EVERYTHING), "console")
    secrets = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    assert secrets == {
        *("mypay-db-mypay-console", "mypay-db-mypay-readonly", "mypay-db-mypay-operator", "mypay-ops"),
        *("mypay-cluster-ca-cert", "mypay-db-ca", "mypay-keys-dead-letter"),
    }
    [init], [container] = pod["initContainers"], pod["containers"]
    env = environment(container)
    for user in ("console", "readonly", "operator"):
        dsn = env[f"MYPAY_POSTGRES_DSN_{user.upper()}"]
        assert dsn is not None
        assert f"//mypay_{user}@" in dsn
        folder = dsn.partition("sslkey=")[2].removesuffix("/tls.key")
        assert mounts(init)[f"postgres-{user}"] == folder.replace("/etc/mypay/", "/given/")
    assert [name for name in env if name.startswith("MYPAY_POSTGRES")] == [
        f"MYPAY_POSTGRES_DSN_{user}" for user in ("CONSOLE", "READONLY", "OPERATOR")
    ]


@needs_helm
def test_the_console_starts_with_what_the_chart_tells_it() -> None:
    """Its own rule of addresses takes them; what the chart would render and it would refuse, the chart refuses."""
    for given in (EVERYTHING, {"console": {"enabled": True}}):
        [container] = pod_of(manifests(given), "console")["containers"]
        told = {name: value for name, value in environment(container).items() if value is not None}
        given_settings = {n.removeprefix("MYPAY_").lower(): v for n, v in told.items() if n.startswith("MYPAY_")}
        check_address(Settings(_env_file=None, **given_settings))
    for url in ("http://console.example", "https://console.example/", "console.example", ""):
        assert "console.url is" in refused({"console": {"enabled": True, "url": url}})


@needs_helm
def test_browsers_reach_the_console_over_tls_alone() -> None:
    whole = EVERYTHING["console"]
    [ingress] = of_kind(manifests(EVERYTHING), "Ingress").values()
    assert ingress["spec"]["tls"] == [{"hosts": ["console.example"], "secretName": "console-tls"}]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["console.example"]
    without = whole | {"ingress": {"enabled": True}}
    assert "tlsSecret names the Secret" in refused({"console": without})
    assert "https:// address" in refused({"console": whole | {"url": "http://localhost:8088"}})
    assert "console.from names" in refused({"console": whole | {"from": []}})
    # Who has nothing in front of it lets nobody in: a forwarded port comes from the node.
    policies = of_kind(manifests({"console": {"enabled": True}}), "NetworkPolicy")
    assert set(policies) == {"mypay"}
    assert [p["port"] for rule in policies["mypay"]["spec"]["ingress"] for p in rule["ports"]] == [9100]


@needs_helm
def test_peoples_commands_are_an_operators_and_have_the_keys_that_are_named() -> None:
    assert "mypay-tools" not in of_kind(manifests(), "Deployment")
    pod = pod_of(manifests(EVERYTHING), "tools")
    secrets = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    assert secrets == {
        *("mypay-db-mypay-readonly", "mypay-db-mypay-operator", "mypay-ops", "mypay-admin"),
        *("mypay-cluster-ca-cert", "mypay-db-ca", "mypay-keys-dead-letter"),
    }
    env = environment(pod["containers"][0])
    assert env["MYPAY_ISSUERS_DIR"] in mounts(pod["containers"][0]).values()
    assert pod_of(manifests({"tools": {"enabled": True}}), "tools")
    # What comes with a partner is kept as often as the chart's own topics.
    topics = of_kind(manifests(EVERYTHING), "KafkaTopic").values()
    assert {str(t["spec"]["replicas"]) for t in topics} == {env["MYPAY_KAFKA_REPLICATION_FACTOR"]}


@needs_helm
def test_the_providers_secret_is_in_no_manifest() -> None:
    [container] = pod_of(manifests(EVERYTHING), "console")["containers"]
    [secret] = [e for e in container["env"] if e["name"] == "MYPAY_CONSOLE_OIDC_CLIENT_SECRET"]
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "console-oidc", "key": "client-secret"}}
    assert environment(container)["MYPAY_CONSOLE_OIDC_ISSUER"] == "https://login.example"


# --- operators' kinds -------------------------------------------------------------------------------------------------


@needs_helm
def test_the_archive_is_run_each_night_on_a_volume_one_at_a_time() -> None:
    assert of_kind(manifests(), "CronJob") == {}
    [job] = of_kind(manifests(EVERYTHING), "CronJob").values()
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"][-1].endswith("mypay archive run")
    env = environment(container)
    assert unknown_settings(env) == []
    assert len(env) == len(container["env"])
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert mounts(container).keys() == volumes.keys()
    assert mounts(container)["archive"] == env["MYPAY_ARCHIVE_DIR"]
    assert volumes["archive"]["persistentVolumeClaim"] == {"claimName": "archive"}
    assert f"//{Role.ARCHIVE.user}@" in env["MYPAY_POSTGRES_DSN_ARCHIVE"]
    assert volumes["user"]["secret"] == {"secretName": f"mypay-db-{Role.ARCHIVE.user}".replace("_", "-")}
    assert "archive.claim names the volume" in refused({"archive": {"enabled": True}})


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
    assert "minReplicas is 1 at least" in refused({"autoscaling": {"enabled": True, "minReplicas": 0}})


MEMBERS = {"partners": ["shop-pay"], "recipients": ["org-1"], "affiliates": ["points"], "networks": NETWORKS}
"""Whom the values name, beside the networks that are theirs as they come."""


@needs_helm
@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_the_charts_topics_are_those_of_the_table(replicas: int) -> None:
    kafka = EVERYTHING["kafka"] | {"replicationFactor": replicas}
    found = of_kind(manifests(EVERYTHING | {"kafka": kafka}), "KafkaTopic")
    wanted = {t.name: (t.partitions, replicas, topic_configuration(t, replicas)) for t in concrete_topics(**MEMBERS)}
    # With more confirmations than brokers a topic takes nothing.
    assert {
        n: (m["spec"]["partitions"], m["spec"]["replicas"], m["spec"]["config"]) for n, m in found.items()
    } == wanted


@needs_helm
def test_the_charts_users_have_the_rights_of_the_tables() -> None:
    found = of_kind(manifests(EVERYTHING), "KafkaUser")
    rights = {
        (name, *(a["resource"].get(key) for key in ("type", "name", "patternType")), operation)
        for name, m in found.items()
        for a in m["spec"]["authorization"]["acls"]
        for operation in a["operations"]
    }
    kinds = {Resource.TRANSACTIONAL_ID: "transactionalId"}
    patterns = {Pattern.PREFIXED: "prefix", Pattern.LITERAL: "literal"}
    wanted = {
        (
            # Kubernetes' names have no underscore.
            rule.principal.removeprefix("User:").replace("_", "-"),
            *(
                ("cluster", None, None)
                if rule.resource is Resource.CLUSTER
                else (kinds.get(rule.resource, rule.resource.value), rule.name, patterns[rule.pattern])
            ),
            rule.operation.value,
        )
        for rule in acls(**MEMBERS)
    }
    assert rights == wanted
    assert set(found) == {p.name.replace("_", "-") for p in principals(**MEMBERS)}


@needs_helm
def test_who_comes_from_elsewhere_has_a_password_and_a_quota() -> None:
    users = of_kind(manifests(EVERYTHING), "KafkaUser")
    kinds = {name: m["spec"]["authentication"]["type"] for name, m in users.items()}
    others = {"mypay-partner-shop-pay", "mypay-recipient-org-1", "mypay-affiliate-points"}
    assert {name for name, kind in kinds.items() if kind == "scram-sha-512"} == others
    limits = quotas(partners=["shop-pay"], recipients=["org-1"], affiliates=["points"])
    told = {name: m["spec"]["quotas"] for name, m in users.items() if "quotas" in m["spec"]}
    assert told == {
        quota.user: {
            "producerByteRate": quota.producer_byte_rate,
            "consumerByteRate": quota.consumer_byte_rate,
            "requestPercentage": quota.request_percentage,
        }
        for quota in limits
    }
    assert set(told) == others
    assert all(isinstance(rate, int) for rates in told.values() for rate in rates.values()), "without an exponent"
    strimzi = {"enabled": True, "partners": ["Shop_Pay"]}
    assert "partner Shop_Pay cannot be a KafkaUser" in refused({"kafka": {"strimzi": strimzi}})


@needs_helm
def test_a_network_of_the_values_gets_its_process_topics_and_user() -> None:
    [text] = yaml.safe_load((CHART / "values.yaml").read_text())["networks"].values()
    given = {"networks": {"k_card": text.replace("bcard", "k_card")}, "kafka": {"strimzi": {"enabled": True}}}
    found = manifests(given)
    topics = {m["spec"].get("topicName", name) for name, m in of_kind(found, "KafkaTopic").items()}
    wanted = concrete_topics(partners=[], networks=[*NETWORKS, "k_card"])
    assert topics == {t.name for t in wanted}
    assert "mypay-execution-k-card" in of_kind(found, "KafkaUser")
    pod = pod_of(found, "execution-k-card")
    assert pod["containers"][0]["args"] == ["run", "execution", "--network", "k_card"]
    assert mounts(pod["initContainers"][0])["kafka-user"] == "/given-kafka/mypay-execution-k_card"


@needs_helm
def test_every_name_is_one_that_kubernetes_takes() -> None:
    """Its schemas do not say; its server refuses the others."""
    [text] = yaml.safe_load((CHART / "values.yaml").read_text())["networks"].values()
    stages = EVERYTHING["stages"] | {"settlement": {"clearingClaim": "c", "clearingKeys": {"k_card": "k-card-seal"}}}
    for manifest in manifests(EVERYTHING | {"stages": stages, "networks": {"k_card": text.replace("bcard", "k_card")}}):
        name = manifest["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name), (manifest["kind"], name)
        assert len(name) <= 253
        pod = manifest["spec"].get("template", {}).get("spec", {}) if "spec" in manifest else {}
        for part in ("volumes", "containers", "initContainers"):
            for each in pod.get(part, []):
                assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", each["name"]), (name, each["name"])
        for label in manifest["metadata"].get("labels", {}).values():
            assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", label), (name, label)
