"""deploy/compose.yaml: everything on one machine in containers, made of the table of stages."""

from collections.abc import Sequence
from typing import Any, Final

import yaml

from gateway.app.stages import METRICS_PORT, STAGES, Stage
from gateway.cli.deploy.console import CONSOLE_COMMAND, CONSOLE_FOLDERS, CONSOLE_ROLES
from gateway.database.roles import Role
from gateway.proving.stack.versions import versions

MADE: Final = "# Made by `mypay deploy generate` from the code's tables: change those.\n"

_VOLUMES: Final = ("certificates", "keys", "kafka", "postgres", "clearing", "state", "simulator")
_PARTNER: Final = "shop-pay"
_UID: Final = "10001:10001"
_CERTIFICATES: Final = "/etc/mypay/certificates"
_KEYS: Final = "/var/lib/mypay/keys"
_PROMETHEUS: Final = "prom/prometheus:v3.5.0"
_GRAFANA: Final = "grafana/grafana:12.1.0"

_HARDENED: Final[dict[str, Any]] = {
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}


def compose_file(networks: Sequence[str]) -> str:
    """The file, with an execution for each network and a simulated host for the first one."""
    services = {
        "certificates": _certificates(networks),
        "kafka": _kafka(),
        "postgres": _postgres(),
        "setup": _setup(),
        **{service(s, n): _stage(s, n) for s in STAGES if s.name != "portability-api" for n in _members(s, networks)},
        "console": _console(),
        "simulator": _simulator(networks[0]),
        "prometheus": _prometheus(),
        "grafana": _grafana(),
        "tools": _tools(),
    }
    document = {
        "name": "mypay",
        "services": services,
        "volumes": {name: {} for name in _VOLUMES},
        "networks": {"default": {}},
    }
    head = (
        MADE + "# The gateway and all that it stands on, to look at and to try: deploy/README.md says what it is not.\n"
        "#   docker compose -f deploy/compose.yaml up --build --wait\n"
    )
    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return head + text


def service(stage: Stage, network: str) -> str:
    """A process's name, here and as a host."""
    return f"{stage.name}-{network}" if network else stage.name


def prometheus_file(networks: Sequence[str]) -> str:
    """What Prometheus asks: every process."""
    targets = [
        {"targets": [f"{service(s, n)}:{METRICS_PORT}"], "labels": {"process": f"{s.name} {n}".strip()}}
        for s in STAGES
        if s.name != "portability-api"
        for n in _members(s, networks)
    ]
    targets.append({"targets": [f"console:{METRICS_PORT}"], "labels": {"process": "console"}})
    document = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["/etc/prometheus/mypay/rules.yaml", "/etc/prometheus/mypay/alerts.yaml"],
        "scrape_configs": [{"job_name": "mypay", "static_configs": targets}],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return MADE + text


def _members(stage: Stage, networks: Sequence[str]) -> Sequence[str]:
    return networks if stage.per_network else [""]


_IMAGE: Final = "mypay-gateway:local"


def _image() -> dict[str, Any]:
    """Of whoever uses the image: it is never looked for elsewhere."""
    return {"image": _IMAGE, "pull_policy": "never"}


def _built() -> dict[str, Any]:
    """Of the one service that builds it: two that export one name at once fail, the first time ("already exists")."""
    return {"image": _IMAGE, "build": {"context": "..", "dockerfile": "deploy/Dockerfile"}}


def _volume(name: str, target: str, part: str = "", *, writes: bool = False) -> dict[str, Any]:
    volume: dict[str, Any] = {"type": "volume", "source": name, "target": target}
    if not writes:
        volume["read_only"] = True
    if part:
        # The folder is made by the service certificates, after this container was created: nothing is copied into it.
        volume["volume"] = {"subpath": part, "nocopy": True}
    return volume


def _dsn(user: str) -> str:
    files = f"sslrootcert={_CERTIFICATES}/ca.pem&sslcert={_CERTIFICATES}/{user}.crt&sslkey={_CERTIFICATES}/{user}.key"
    return f"postgresql://{user}@postgres:5432/mypay?sslmode=verify-full&{files}"


_TRACING: Final = ("MYPAY_OTEL_ENDPOINT", "MYPAY_OTEL_RATIO", "OTEL_EXPORTER_OTLP_HEADERS")


def _environment() -> dict[str, str]:
    return {
        "MYPAY_KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "MYPAY_KAFKA_SECURITY_PROTOCOL": "SSL",
        "MYPAY_KAFKA_SSL_CAFILE": f"{_CERTIFICATES}/ca.pem",
        "MYPAY_KAFKA_CREDENTIALS_DIR": _CERTIFICATES,
        "MYPAY_NETWORKS_DIR": "/etc/mypay/networks",
        # As in the guide's first order: proofs need identity providers that this file has not.
        "MYPAY_ALLOW_NO_PROOF": "1",
    }


def _stage(stage: Stage, network: str) -> dict[str, Any]:
    name = service(stage, network)
    environment = _environment() | {
        f"MYPAY_POSTGRES_DSN_{stage.role.name}": _dsn(Role(stage.role.value).user),
        "MYPAY_HTTP_HOST": "0.0.0.0",  # noqa: S104 - of a container
        "MYPAY_HTTP_PORT": str(METRICS_PORT),
        "MYPAY_WORKER": name,
        # Without a value they are those of whoever starts it, if they are set there at all.
        **dict.fromkeys(_TRACING),
    }
    volumes = [_volume("certificates", _CERTIFICATES, name), _networks()]
    for setting, folder in stage.folders().items():
        if setting != "clearing_keys_dir":
            environment[f"MYPAY_{setting.upper()}"] = f"{_KEYS}/{folder}"
            volumes.append(_volume("keys", f"{_KEYS}/{folder.partition('/')[0]}", folder.partition("/")[0]))
    if stage.name == "settlement":
        environment |= {
            "MYPAY_CLEARING_INBOX": "/var/lib/mypay/clearing",
            "MYPAY_CLEARING_STATE_DIR": "/var/lib/mypay/state",
            "MYPAY_CLEARING_UNSEALED": "1",
        }
        volumes += [
            _volume("clearing", "/var/lib/mypay/clearing", writes=True),
            _volume("state", "/var/lib/mypay/state", writes=True),
        ]
    return {
        **_image(),
        "command": ["run", stage.name, *(["--network", network] if network else [])],
        "environment": environment,
        "volumes": volumes,
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": _HEALTHCHECK,
        "stop_grace_period": "30s",
        "restart": "unless-stopped",
        **_HARDENED,
    }


_ASK: Final = f"from urllib.request import urlopen; urlopen('http://127.0.0.1:{METRICS_PORT}/healthz', timeout=4)"

_HEALTHCHECK: Final = {
    "test": ["CMD", "python", "-c", _ASK],
    "interval": "10s",
    "timeout": "5s",
    "start_period": "30s",
}


def _networks() -> dict[str, Any]:
    return {"type": "bind", "source": "./compose/networks", "target": "/etc/mypay/networks", "read_only": True}


def _certificates(networks: Sequence[str]) -> dict[str, Any]:
    made = " ".join(f"--network {n}" for n in networks)
    # Once: the volumes are root's, and each key is for the user of the process that reads it.
    script = (
        f"test -e /certificates/console || mypay deploy certificates /tmp/made {made} --partner {_PARTNER}\n"
        "test -e /certificates/console || cp -R /tmp/made/. /certificates/\n"
        f"chown -R {_UID} /certificates /keys /state /clearing /simulator\n"
        "chown -R 1000:1000 /certificates/kafka\n"
        "chown -R 999:999 /certificates/postgres\n"
        "mkdir -p " + " ".join(f"/keys/{name}" for name in _key_folders()) + "\n"
        # A ring that others could open is refused.
        "chmod 700 /keys/*\n"
        f"chown -R {_UID} /keys\n"
    )
    return {
        **_built(),
        "user": "0:0",
        "entrypoint": ["sh", "-euc", script],
        "volumes": [
            _volume("certificates", "/certificates", writes=True),
            _volume("keys", "/keys", writes=True),
            _volume("state", "/state", writes=True),
            _volume("clearing", "/clearing", writes=True),
            _volume("simulator", "/simulator", writes=True),
        ],
    }


def _key_folders() -> list[str]:
    folders = {f.partition("/")[0] for s in STAGES for f in s.folders().values()}
    return sorted(folders - {"clearing"})


def _kafka() -> dict[str, Any]:
    return {
        "image": f"apache/kafka:{versions().kafka}",
        "environment": {"CLUSTER_ID": "bXlwYXktY29tcG9zZS0wMQ"},
        "volumes": [
            {
                "type": "bind",
                "source": "./compose/server.properties",
                "target": "/mnt/shared/config/server.properties",
                "read_only": True,
            },
            _volume("certificates", "/etc/kafka/secrets", "kafka"),
            _volume("kafka", "/var/lib/kafka/data", writes=True),
        ],
        "depends_on": {"certificates": {"condition": "service_completed_successfully"}},
        "healthcheck": {
            "test": ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/9093"],
            "interval": "5s",
            "retries": 30,
        },
        "restart": "unless-stopped",
        "security_opt": ["no-new-privileges:true"],
    }


def _postgres() -> dict[str, Any]:
    settings = (
        "ssl=on",
        *(f"ssl_{n}=/etc/mypay/tls/{f}" for n, f in _POSTGRES_FILES),
        "hba_file=/etc/mypay/pg_hba.conf",
    )
    return {
        "image": f"postgres:{versions().postgres.partition('.')[0]}",
        "command": ["postgres", *(word for setting in settings for word in ("-c", setting))],
        # The image asks for it where it makes the database; what counts is compose/pg_hba.conf: certificates alone.
        "environment": {"POSTGRES_DB": "mypay", "POSTGRES_HOST_AUTH_METHOD": "trust"},
        "volumes": [
            {"type": "bind", "source": "./compose/pg_hba.conf", "target": "/etc/mypay/pg_hba.conf", "read_only": True},
            _volume("certificates", "/etc/mypay/tls", "postgres"),
            _volume("postgres", "/var/lib/postgresql", writes=True),
        ],
        "depends_on": {"certificates": {"condition": "service_completed_successfully"}},
        "healthcheck": {"test": ["CMD", "pg_isready", "-d", "mypay"], "interval": "5s", "retries": 30},
        "restart": "unless-stopped",
        "shm_size": "256mb",
        "security_opt": ["no-new-privileges:true"],
    }


_POSTGRES_FILES: Final = (("cert_file", "server.crt"), ("key_file", "server.key"), ("ca_file", "ca.pem"))


def _operator_environment() -> dict[str, str]:
    rings = {
        setting: folder for s in STAGES for setting, folder in s.folders().items() if setting != "clearing_keys_dir"
    }
    return _environment() | {
        "MYPAY_POSTGRES_DSN_OPERATOR": _dsn("mypay_operator"),
        "MYPAY_POSTGRES_DSN_READONLY": _dsn("mypay_readonly"),
        "MYPAY_POSTGRES_DSN_CONSOLE": _dsn("mypay_console"),
        "MYPAY_OPERATOR": "compose",
        **{f"MYPAY_{setting.upper()}": f"{_KEYS}/{folder}" for setting, folder in rings.items()},
    }


def _setup() -> dict[str, Any]:
    script = (
        f"MYPAY_POSTGRES_DSN='{_dsn('postgres')}' mypay migrate roles --apply\n"
        f"MYPAY_POSTGRES_DSN_OWNER='{_dsn('mypay_owner')}' mypay migrate\n"
        "mypay keys create\n"
        "mypay auth policy apply --why 'deploy/compose.yaml: no proof is asked for'\n"
        "mypay topics acl --apply\n"
        "mypay topics apply\n"
    )
    return {
        **_image(),
        "entrypoint": ["sh", "-euc", script],
        "environment": _operator_environment(),
        "volumes": [
            _volume("certificates", _CERTIFICATES, "operator"),
            _volume("keys", _KEYS, writes=True),
            _networks(),
        ],
        "depends_on": {name: {"condition": "service_healthy"} for name in ("kafka", "postgres")},
        **_HARDENED,
    }


def _tools() -> dict[str, Any]:
    """`docker compose run --rm tools …`: any command."""
    return {
        **_image(),
        "profiles": ["tools"],
        "environment": _operator_environment(),
        "volumes": [
            _volume("certificates", _CERTIFICATES, "operator"),
            _volume("keys", _KEYS, writes=True),
            _networks(),
        ],
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        **_HARDENED,
    }


def _console() -> dict[str, Any]:
    environment = {
        **_environment(),
        **{f"MYPAY_POSTGRES_DSN_{role.name}": _dsn(role.user) for role in CONSOLE_ROLES},
        **{variable: f"{_KEYS}/{folder}" for variable, folder in CONSOLE_FOLDERS.items()},
        "MYPAY_CONSOLE_HOST": "0.0.0.0",  # noqa: S104 - of a container
        "MYPAY_CONSOLE_URL": "http://localhost:8088",
        "MYPAY_HTTP_HOST": "0.0.0.0",  # noqa: S104 - likewise
        "MYPAY_HTTP_PORT": str(METRICS_PORT),
    }
    return {
        **_image(),
        "command": [*CONSOLE_COMMAND],
        "environment": environment,
        "ports": ["127.0.0.1:8088:8088"],
        # Browsers speak to it: it gets no key but its own.
        "volumes": [
            _volume("certificates", _CERTIFICATES, "console"),
            _networks(),
            *(_volume("keys", f"{_KEYS}/{folder}", folder) for folder in CONSOLE_FOLDERS.values()),
        ],
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": _HEALTHCHECK,
        "restart": "unless-stopped",
        **_HARDENED,
    }


def _simulator(network: str) -> dict[str, Any]:
    return {
        **_image(),
        "command": [
            *("simulate", "network", "--network-id", network, "--host", "0.0.0.0", "--port", "8583"),  # noqa: S104
            *("--ledger", "/var/lib/mypay/simulator/books.sqlite"),
            *("--clearing-dir", f"/var/lib/mypay/clearing/{network}", "--cycle-seconds", "60"),
        ],
        "volumes": [
            _volume("simulator", "/var/lib/mypay/simulator", writes=True),
            _volume("clearing", "/var/lib/mypay/clearing", writes=True),
        ],
        "depends_on": {"certificates": {"condition": "service_completed_successfully"}},
        "restart": "unless-stopped",
        **_HARDENED,
    }


def _prometheus() -> dict[str, Any]:
    return {
        "image": _PROMETHEUS,
        "ports": ["127.0.0.1:9090:9090"],
        "volumes": [
            {
                "type": "bind",
                "source": "./compose/prometheus.yml",
                "target": "/etc/prometheus/prometheus.yml",
                "read_only": True,
            },
            {"type": "bind", "source": "./prometheus", "target": "/etc/prometheus/mypay", "read_only": True},
        ],
        "restart": "unless-stopped",
        "security_opt": ["no-new-privileges:true"],
    }


def _grafana() -> dict[str, Any]:
    return {
        "image": _GRAFANA,
        "ports": ["127.0.0.1:3000:3000"],
        "volumes": [
            {
                "type": "bind",
                "source": "./grafana/provisioning",
                "target": "/etc/grafana/provisioning",
                "read_only": True,
            },
            {
                "type": "bind",
                "source": "./grafana/dashboards",
                "target": "/var/lib/grafana/dashboards",
                "read_only": True,
            },
        ],
        "depends_on": ["prometheus"],
        "restart": "unless-stopped",
        "security_opt": ["no-new-privileges:true"],
    }
