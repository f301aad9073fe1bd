"""deploy/systemd: a unit for every process and the archive's timer, with their users and folders."""

from collections.abc import Mapping, Sequence

from gateway.app.stages import STAGES, Stage
from gateway.cli.deploy.console import CONSOLE_COMMAND, CONSOLE_FOLDERS

_MADE = "# Made by `mypay deploy generate` from the code's tables: change those, or add a drop-in.\n"

_CLEARING = "/var/lib/mypay/clearing"

_SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""

_SERVICE = """[Unit]
Description=My-Payment gateway: {what}
Documentation=file:///opt/mypay/deploy/README.md
After=network-online.target
Wants=network-online.target
PartOf=mypay.target

[Service]
Type=exec
User={user}
Group=mypay
# Keys are readable by their owner alone, so each process has its own copies of those that it needs.
{environment}# These win: settings of all processes; then of this one alone, as its addresses and its principal's files.
EnvironmentFile=/etc/mypay/mypay.env
EnvironmentFile=-/etc/mypay/{name}.env
Environment=MYPAY_WORKER=%H-{worker}
WorkingDirectory=/var/lib/mypay
ExecStart=/opt/mypay/.venv/bin/mypay {arguments}
# SIGTERM lets it end what it has in hand.
TimeoutStopSec=30
Restart=always
RestartSec=1

{sandbox}{writes}
[Install]
WantedBy=mypay.target
"""

_ARCHIVE = """[Unit]
Description=My-Payment gateway: moves old payments into the archive
Documentation=file:///opt/mypay/deploy/README.md
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User=mypay-archive
Group=mypay
EnvironmentFile=/etc/mypay/mypay.env
EnvironmentFile=-/etc/mypay/archive.env
Environment=MYPAY_ARCHIVE_DIR=/var/lib/mypay/archive
WorkingDirectory=/var/lib/mypay
StateDirectory=mypay/archive
StateDirectoryMode=0700
ExecStart=/opt/mypay/.venv/bin/mypay archive run

{sandbox}"""

_DAILY = """[Unit]
Description=My-Payment gateway: the archive, each night

[Timer]
OnCalendar=*-*-* 03:30:00
RandomizedDelaySec=15min
Persistent=true

[Install]
WantedBy=timers.target
"""


_FOLDERS = {
    "/etc/mypay": "root",
    "/etc/mypay/keys": "root",
    "/etc/mypay/networks": "root",
    "/var/lib/mypay": "root",
} | {f"{_CLEARING}{part}": "mypay-settlement" for part in ("", "/inbox", "/state")}
"""Folder that units name → whose it is; others of the group may look into it."""


_PROCESSES = (*(stage.name for stage in STAGES), "console", "archive")


def _users() -> str:
    """For ``systemd-sysusers``: each process is a user of its own."""
    users = [f"mypay-{name}" for name in _PROCESSES]
    lines = ["g mypay -", *(line for u in users for line in (f"u {u} - - /var/lib/mypay", f"m {u} mypay"))]
    return _MADE + "\n".join(lines) + "\n"


def _folders() -> str:
    """For ``systemd-tmpfiles``: a folder of keys is its process's alone."""
    lines = [f"d {folder} 0750 {owner} mypay" for folder, owner in _FOLDERS.items()]
    lines += [f"d /etc/mypay/keys/{name} 0700 mypay-{name} mypay" for name in _PROCESSES]
    return _MADE + "\n".join(lines) + "\n"


def _environment(stage: Stage) -> str:
    """Where the process finds what it cannot do without."""
    settings = {"networks_dir": "/etc/mypay/networks"}
    settings |= {setting: f"/etc/mypay/keys/{stage.name}/{path}" for setting, path in stage.folders().items()}
    if stage.name == "settlement":
        settings |= {"clearing_inbox": f"{_CLEARING}/inbox", "clearing_state_dir": f"{_CLEARING}/state"}
    if stage.name == "portability-api":
        files = {"certificate_file": "tls.crt", "key_file": "tls.key", "clients_file": "clients-ca.crt"}
        settings |= {f"portability_api_{name}": f"/etc/mypay/keys/{stage.name}/{file}" for name, file in files.items()}
    return _settings({f"MYPAY_{name.upper()}": path for name, path in settings.items()})


def _settings(settings: Mapping[str, str]) -> str:
    return "".join(f"Environment={name}={value}\n" for name, value in settings.items())


def _console() -> str:
    """It is started where its three addresses of the database are: of all units it alone needs more than one."""
    keys = {variable: f"/etc/mypay/keys/console/{folder}" for variable, folder in CONSOLE_FOLDERS.items()}
    return _MADE + _SERVICE.format(
        what="the operators' console",
        name="console",
        user="mypay-console",
        worker="console",
        arguments=" ".join(CONSOLE_COMMAND),
        environment=_settings({"MYPAY_NETWORKS_DIR": "/etc/mypay/networks"} | keys),
        sandbox=_SANDBOX,
        writes="",
    )


def unit_files(networks: Sequence[str]) -> dict[str, str]:
    """File → unit. Of execution an instance a network: ``mypay-execution@bcard``."""
    files = {}
    wanted = []
    for stage in STAGES:
        instance = "@" if stage.per_network else ""
        arguments = f"run {stage.name} --network %i" if stage.per_network else f"run {stage.name}"
        writes = f"ReadWritePaths={_CLEARING}\n" * (stage.name == "settlement")
        files[f"mypay-{stage.name}{instance}.service"] = _MADE + _SERVICE.format(
            what=stage.what,
            name=f"{stage.name}-%i" if stage.per_network else stage.name,
            user=f"mypay-{stage.name}",
            worker=f"{stage.name}-%i" if stage.per_network else stage.name,
            arguments=arguments,
            environment=_environment(stage),
            sandbox=_SANDBOX,
            writes=writes,
        )
        # What answers recipients is started where its certificates are.
        if stage.name != "portability-api":
            members = networks if stage.per_network else [""]
            wanted += [f"mypay-{stage.name}{instance}{member}.service" for member in members]
    files["mypay-console.service"] = _console()
    files["mypay.sysusers.conf"] = _users()
    files["mypay.tmpfiles.conf"] = _folders()
    files["mypay-archive.service"] = _MADE + _ARCHIVE.format(sandbox=_SANDBOX)
    files["mypay-archive.timer"] = _MADE + _DAILY
    files["mypay.target"] = (
        f"{_MADE}[Unit]\nDescription=My-Payment gateway\nWants={' '.join(wanted)}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    return files
