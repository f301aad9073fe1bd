"""deploy/systemd: a unit for every process and the archive's timer, for machines without containers."""

from collections.abc import Sequence

from gateway.app.stages import STAGES

_MADE = "# Made by `mypay deploy generate` from the code's tables: change those, or add a drop-in.\n"

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
# Settings of all processes, then of this one alone: its database address, its Kafka principal's files.
EnvironmentFile=/etc/mypay/mypay.env
EnvironmentFile=-/etc/mypay/{name}.env
Environment=MYPAY_WORKER=%H-{worker}
WorkingDirectory=/var/lib/mypay
ExecStart=/opt/mypay/.venv/bin/mypay run {arguments}
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


def unit_files(networks: Sequence[str]) -> dict[str, str]:
    """File → unit. Of execution an instance a network: ``mypay-execution@bcard``."""
    files = {}
    wanted = []
    for stage in STAGES:
        instance = "@" if stage.per_network else ""
        arguments = f"{stage.name} --network %i" if stage.per_network else stage.name
        writes = "ReadWritePaths=/var/lib/mypay/clearing /var/lib/mypay/clearing-state\n" * (stage.name == "settlement")
        files[f"mypay-{stage.name}{instance}.service"] = _MADE + _SERVICE.format(
            what=stage.what,
            name=f"{stage.name}-%i" if stage.per_network else stage.name,
            user=f"mypay-{stage.name}",
            worker=f"{stage.name}-%i" if stage.per_network else stage.name,
            arguments=arguments,
            sandbox=_SANDBOX,
            writes=writes,
        )
        # What answers recipients is started where its certificates are.
        if stage.name != "portability-api":
            members = networks if stage.per_network else [""]
            wanted += [f"mypay-{stage.name}{instance}{member}.service" for member in members]
    files["mypay-archive.service"] = _MADE + _ARCHIVE.format(sandbox=_SANDBOX)
    files["mypay-archive.timer"] = _MADE + _DAILY
    files["mypay.target"] = (
        f"{_MADE}[Unit]\nDescription=My-Payment gateway\nWants={' '.join(wanted)}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    return files
