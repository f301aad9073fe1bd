"""Every setting of the gateway: typed, from the environment (``MYPAY_…``) or a ``.env`` file, each with its reason.

They are read by :mod:`gateway.app.environment`. Networks are configuration of their own: one TOML file each in
``networks_dir`` (see ``deploy/networks``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.base.loopback import is_private_way


def _private(url: str) -> str:
    if not is_private_way(url):
        raise ValueError("must begin with https://, for it is not a loopback address")
    return url


class Settings(BaseSettings):
    """Settings of one process. ``MYPAY_KAFKA_BOOTSTRAP_SERVERS`` sets ``kafka_bootstrap_servers``, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="MYPAY_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    # --- where things are ---
    home: Path = Path("var")
    """Local state: the local stack's data, generated keys, logs."""
    stack: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$")] = "default"
    """Which local stack to use where no address is given."""
    kafka_bootstrap_servers: str | None = None
    """``host:port[,host:port]``. None: the local stack's."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to speak to the brokers. PLAINTEXT and SASL_PLAINTEXT are for this machine alone, unless
    `MYPAY_KAFKA_ALLOW_PLAINTEXT` is set."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How a password is shown, where the protocol is a SASL one. PLAIN hands the broker the password itself: only if
    you must."""
    kafka_username: str | None = None
    """Who this process is to the brokers. None: the principal of its stage, ``mypay-relay`` or
    ``mypay-execution-bcard`` (`mypay topics acl` lists them), so that one set of settings serves every stage."""
    kafka_password: SecretStr | None = None
    """The password of that user."""
    kafka_credentials_dir: Path | None = None
    """Files by principal where no password or certificate is given: ``mypay-relay.password``, or ``mypay-relay.crt``
    and ``mypay-relay.key`` (PEM). Readable by their owner alone; a process reads its own. `mypay topics acl --apply`
    and `mypay partner add` put the passwords that they make there."""
    kafka_ssl_cafile: Path | None = None
    """PEM of the authorities that sign the brokers' certificates. None: the system's."""
    kafka_ssl_certfile: Path | None = None
    """This process's own certificate (PEM), where the brokers ask for one: mutual TLS."""
    kafka_ssl_keyfile: Path | None = None
    """Its key, where it is not in the same file."""
    kafka_ssl_key_password: SecretStr | None = None
    """What the key's file is encrypted with, if it is."""
    kafka_allow_plaintext: bool = False
    """Let a protocol without encryption leave this machine: where something else encrypts. Refused otherwise."""
    worker: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """A name of this process that stays over restarts, such as a pod's in a StatefulSet; no two living processes of one
    stage may share it. Started again within `MYPAY_KAFKA_SESSION_S`, also after it was killed, it has its partitions
    back at once, and the other workers of its stage hear nothing of it. None: they move to others, or wait for that
    long."""
    kafka_session_s: Annotated[float, Field(ge=1.0, le=60.0)] = 3.0
    """A process of which the brokers have not heard for so long is dead to them: its partitions move to other workers.
    Where they refuse it (their `group.min.session.timeout.ms` is 6 s by default), it is 6 s. Shorter makes a process
    that stands still for a moment look dead, which repeats work and does no harm to money."""
    kafka_replication_factor: PositiveInt = 1
    """For topics that we create: 3 on a real cluster."""
    postgres_dsn: SecretStr | None = None
    """``postgresql://…``, for every process that has no address of its own below. None: the local stack's, where each
    process is its own user."""
    postgres_dsn_owner: SecretStr | None = None
    """For `mypay migrate`: user mypay_owner."""
    postgres_dsn_initiation: SecretStr | None = None
    """For `mypay run initiation`: user mypay_initiation; and so on below. See deploy/postgres."""
    postgres_dsn_consents: SecretStr | None = None
    """For `mypay run consents`."""
    postgres_dsn_execution: SecretStr | None = None
    """For `mypay run execution`."""
    postgres_dsn_relay: SecretStr | None = None
    """For `mypay run relay`."""
    postgres_dsn_settlement: SecretStr | None = None
    """For `mypay run settlement`."""
    postgres_dsn_schedule: SecretStr | None = None
    """For `mypay run schedule`."""
    postgres_dsn_sharing: SecretStr | None = None
    """For `mypay run sharing`."""
    postgres_dsn_disclosure: SecretStr | None = None
    """For `mypay run disclosure`."""
    postgres_dsn_portability: SecretStr | None = None
    """For `mypay run portability`."""
    postgres_dsn_marketing: SecretStr | None = None
    """For `mypay run marketing`."""
    postgres_dsn_archive: SecretStr | None = None
    """For `mypay archive run`."""
    postgres_dsn_portability_api: SecretStr | None = None
    """For `mypay run portability-api`."""
    postgres_dsn_console: SecretStr | None = None
    """For `mypay console`: user mypay_console, who knows who is signed in, and nothing else. What is shown is read as
    mypay_readonly, and what is done is done as mypay_operator."""
    postgres_dsn_operator: SecretStr | None = None
    """For people's commands that change something: user mypay_operator."""
    postgres_dsn_readonly: SecretStr | None = None
    """For people's commands that only look: user mypay_readonly."""
    postgres_allow_plaintext: bool = False
    """Connect to a database on another machine that need not show who it is (no sslmode=verify-full or verify-ca),
    where the network itself keeps others out."""
    postgres_allow_any_role: bool = False
    """Let a process run as a database user who may do more than it needs: an owner, a superuser. On this machine always
    permitted."""
    networks_dir: Path = Path("deploy/networks")
    """One TOML file a card network."""
    master_keys_dir: Path = Path("var/keys/master")
    """Keys that seal the vault's cards, one file each; the newest seals, all open. Execution alone needs them."""
    dead_letter_keys_dir: Path = Path("var/keys/dead-letter")
    """Keys that seal and mark dead letters, one file each, for every stage that writes one."""
    internal_keys_dir: Path = Path("var/keys/internal")
    """Keys by which execution knows what initiation and schedule hand to it, one file each; the newest marks, all are
    known. A new one is put where execution runs first."""
    sharing_keys_dir: Path = Path("var/keys/sharing")
    """Keys that name customers for affiliates: `mypay keys create sharing`. The newest names. Keep the older ones
    for as long as affiliates hold what was shared under them: erase notices name it so."""
    disclosure_keys_dir: Path = Path("var/keys/disclosure")
    """Keys that sign the disclosure log's roots: `mypay audit key` makes them. The newest ``.pem`` signs, and only the
    process `disclosure` needs it; the ``.jwk`` beside it is public, and `mypay audit verify` needs all of those."""
    issuers_dir: Path | None = None
    """Trusted identity providers and the trust policy, as in deploy/issuers. What counts of it is what
    `mypay auth policy apply` has written down: a process with another policy does not start."""
    allow_no_proof: bool = False
    """Without ``issuers_dir``: ask for no customer's proof at all, and refuse one that comes. Never with it."""

    # --- operators ---
    operator: str | None = None
    """Who runs operators' commands; --operator wins. Required where the database is not on this machine."""
    operator_two_people: bool = False
    """What gives somebody a right (a partner's key, an identity link, a card token) or lets money move again (a resumed
    network or consent, a dead letter that is sent again) or closes what money hangs on (a break that is resolved) is
    only proposed by one operator, and done when another approves it: `mypay operators approve`."""

    # --- HTTP of each process: /metrics /healthz /readyz ---
    http_host: str = "127.0.0.1"
    """Where each process serves /metrics, /healthz and /readyz: this machine alone, unless somebody else
    asks (`0.0.0.0` in a container, with a network policy before it)."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """On which port; 0: a free one, written to the log. `mypay run all` gives its processes this and the next ones."""

    # --- logs ---
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below it are left out."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""

    log_every_step: bool = False
    """Log a line for each step of every payment. Else those that are out of the ordinary have one: refused, unknown, an
    inquiry, a reversal, an incident."""

    # --- traces ---
    otel_endpoint: Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/[^@\s]*)?$"), AfterValidator(_private)] | None = (
        None
    )
    """Address of an OpenTelemetry collector that takes OTLP over HTTP, such as ``https://collector:4318``; without a
    path it is asked under ``/v1/traces``. Plain ``http://`` is taken for this machine alone. None: nothing is traced.
    Secrets for it go into OpenTelemetry's own ``OTEL_EXPORTER_OTLP_HEADERS``, its certificates into
    ``OTEL_EXPORTER_OTLP_CERTIFICATE`` and so on."""
    otel_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of what comes without a trace context for which a trace begins. The same in every process."""
    otel_partner_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share that is traced of what partners mark as sampled in their ``traceparent``, by the trace's id."""
    otel_traces_per_s: PositiveFloat = 10.0
    """So many traces may begin a second in one process, whoever asks for them: a partner fills its headers as it
    likes."""

    # --- initiation ---
    initiation_batch_max: PositiveInt = 250
    """Orders a turn at most. It amortises three queries and one publication; larger ones only add waiting."""
    initiation_batch_wait_s: PositiveFloat = 0.01
    """From the beginning of one batch to that of the next at least; where a batch took longer the next is given as long
    to gather, and no longer than twice this. An order that comes alone waits for nobody."""
    initiation_look_max: PositiveInt = 2000
    """Records looked at in one turn: a flood is passed over this fast, at the cost of publishing what has to wait."""
    initiation_turn_min: PositiveInt = 8
    """Orders of a turn, shared by all senders, however far execution is behind: with fifty turns a second no more than
    it takes, so that it catches up."""
    initiation_ahead_max: PositiveInt = 500
    """Orders that may wait for execution before senders have to take turns: they stand in one line again. Execution
    takes so many at once; more would be how late everybody's orders are under a flood. What is due on its day has an
    eighth of that."""
    registry_refresh_s: PositiveFloat = 2.0
    """A disabled key or partner stops working in every process within this time."""

    order_ahead_days_max: Annotated[int, Field(ge=1, le=3660)] = 366
    """How many days after today an order's requested_execution_date may be: what a year's bills need."""

    # --- consents ---
    consents_batch_max: PositiveInt = 200
    """Commands a transaction: their consents stay locked for as long as it takes, and orders under them wait."""
    consents_batch_wait_s: PositiveFloat = 0.02
    """From the beginning of one batch to that of the next at least."""

    # --- schedule ---
    schedule_interval_s: PositiveFloat = 1.0
    """How often consents past their ends are looked for: an end is told this much late at most. It holds by itself."""
    schedule_batch_max: PositiveInt = 500
    """Consents ended in one transaction; orders handed on at a time whose day has come."""
    schedule_dispatch_again_s: PositiveFloat = 300.0
    """An order whose day has come is handed on again when execution has not reached it after this long, then after
    twice as long, and so on: what a crash lost comes back, and a network that is away finds few copies."""
    standing_late_s: Annotated[float, Field(gt=0, le=86_400)] = 86_400.0
    """How long after its day began an occurrence of a standing order may still be paid, after an outage: that day."""
    holidays_file: Path | None = None
    """TOML with ``holidays`` and ``working_days``, lists of dates, that change the calendar of Korean business days."""
    open_payments_interval_s: Annotated[float, Field(gt=0, le=10)] = 5.0
    """How often the gauges are told that are read from the database; what is not told for 30 s is not served."""
    purge_interval_s: PositiveFloat = 600.0
    """How often used assertions are forgotten that nothing can replay any more, and events that are no longer kept."""
    outbox_keep_days: PositiveInt = 30
    """Relayed events stay in the database for this long, for `mypay trace`; longer than Kafka keeps them."""

    # --- portability ---
    org_code: Annotated[str, Field(pattern=r"^[A-Z0-9]{10}$")] = "MYPAY00000"
    """The gateway's own org code in MyData: what transmission requests name as ``snd_org_code``."""
    receipt_key_file: Path = Path("var/keys/receipt.pem")
    """Private key (PEM, P-256 or Ed25519) that exports' receipts are signed with; recipients know its public half."""
    portability_batch_max: PositiveInt = 100
    """Transmission requests a transaction."""
    portability_batch_wait_s: PositiveFloat = 0.1
    """How long the first request waits for company."""
    portability_poll_s: PositiveFloat = 0.5
    """Pause where no export waits: half of how late one begins."""
    portability_lease_s: PositiveFloat = 60.0
    """A worker that has sent nothing of its export for this long has lost it: another begins it anew."""

    # --- portability API ---
    portability_api_certificate_file: Path | None = None
    """PEM of the API's own certificate, with what signs it. Without it, its key and its clients' authority the API does
    not run, and `mypay run all` leaves it out."""
    portability_api_key_file: Path | None = None
    """PEM of its private key, not encrypted. Processes that serve side by side have the same, for pages are marked
    under it."""
    portability_api_clients_file: Path | None = None
    """PEM of the authorities that sign recipients' certificates: nobody else gets as far as a question."""
    portability_api_host: str = "127.0.0.1"
    """Where the API listens."""
    portability_api_port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """On which port; 0: a free one, written to the log."""
    portability_api_per_second: PositiveInt = 20
    """Calls a second that one recipient may make of one process; more are told 42901."""
    portability_api_burst: PositiveInt = 60
    """Calls that it may make at once after a pause."""
    portability_api_timeout_s: PositiveFloat = 10.0
    """A call that takes longer is told 50003, and may come again."""

    # --- execution ---
    execution_batch_max: PositiveInt = 500
    """Intents a transaction: amortises its fifteen or so round trips and one disk flush."""
    execution_batch_wait_s: PositiveFloat = 0.1
    """How long orders are waited for before it is looked again whether the network is open; they are taken as soon as
    there are any."""
    execution_pool_size: Annotated[int, Field(ge=4)] = 10
    """Connections of each stage. Execution's: intents, with two for what is read beside them, results, reversals,
    inquiries, recovery, late answers, vault, and one to spare. With fewer than four it could wait for itself."""
    execution_intent_to_wire_s: PositiveFloat = 2.0
    """Past this age an intent whose bytes have not left is withdrawn."""
    execution_results_max: PositiveInt = 500
    """Answers of a network that are written in one transaction."""
    execution_results_wait_s: PositiveFloat = 0.01
    """From the beginning of one of these transactions to that of the next at least: an answer that comes alone is
    written at once."""
    execution_drain_s: PositiveFloat = 17.0
    """On SIGTERM: how long answers are waited for. Longer than a network's answer time-out."""
    recovery_interval_s: PositiveFloat = 0.5
    """How often this worker reports that it lives, and looks for payments of dead ones."""
    recovery_lease_s: PositiveFloat = 4.0
    """A worker that has not reported for this long is dead: others settle what it left. Eight missed reports; workers'
    clocks must agree within a second of it."""
    recovery_margin_s: PositiveFloat = 10.0
    """Added to the longest time that a live worker may hold an unanswered payment before it counts as abandoned."""
    follow_up_poll_s: PositiveFloat = 0.5
    """Pause where no inquiry or reversal is due."""
    follow_up_batch: PositiveInt = 100
    """Inquiries, and reversals, in flight at a time: a flood after an outage leaves room for payments."""

    # --- archive ---
    archive_dir: Path | None = None
    """Where the files of archived payments are written and read. None: the folder `archive` of `MYPAY_HOME`."""
    archive_after_days: Annotated[int, Field(ge=1)] = 1830
    """Payments that have been final for so long are archived: longer than anything is still refunded, corrected,
    exported or counted. Five years and some days, for recipients may ask five years back, and neither exports nor the
    API tell of what is archived."""
    archive_file_payments: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    """A file: some 3 MB. All of them are in memory while it is written, some 3 kB each."""
    archive_batch: Annotated[int, Field(ge=1, le=5_000)] = 500
    """Payments that are moved in one transaction: for its tens of milliseconds events wait to be relayed."""

    # --- relay ---
    relay_batch_max: PositiveInt = 2000
    """Rows a query and a publication; about 1.5 MB."""
    relay_gather_s: PositiveFloat = 0.01
    """From the beginning of a batch that was not full to that of the next at least: adds at most this to an event's
    time, and lets events gather."""
    relay_idle_s: PositiveFloat = 0.02
    """Likewise where there was nothing to relay: how late an event can be that comes after a rest."""

    # --- sharing ---
    sharing_batch_max: PositiveInt = 4000
    """Events looked at in one transaction: a larger one costs less for each of them, and holds consents' locks for
    longer, tens of milliseconds as it is."""
    sharing_interval_s: PositiveFloat = 2.0
    """How often it is looked for what was settled and which consents changed, when there was nothing left: adds as much
    to a share's and an erase notice's time, and lets payments gather for one batch."""
    sharing_erase_days: PositiveInt = 7
    """How long an affiliate has to confirm that it has erased what a notice names; then an alarm rises."""
    # --- joint marketing ---
    marketing_batch_max: PositiveInt = 500
    """Consents looked at, or offers ended, in one transaction: a larger one holds their locks for longer."""
    marketing_interval_s: PositiveFloat = 5.0
    """How often it is looked for what happened of customers who agree: an offer for it is so late at most."""
    marketing_round_s: PositiveFloat = 600.0
    """How often marketing looks at all consents that agree to it; else only at those of which something happened."""
    marketing_end_interval_s: PositiveFloat = 1.0
    """How often it is looked for open offers whose customers permit them no more. A use is refused at once anyway."""
    marketing_aggregate_interval_s: PositiveFloat = 600.0
    """How often it is looked for weeks to publish."""
    marketing_k: Annotated[int, Field(ge=2)] = 10
    """The least number of customers that a number of an aggregate may tell of."""
    # --- disclosure ---
    disclosure_batch_max: PositiveInt = 4000
    """Events of the outbox read at a time: what is made of them takes tens of milliseconds and holds back the relay."""
    disclosure_idle_s: PositiveFloat = 1.0
    """Pause after a batch that was not full: an entry is this much late at most. Uses gather meanwhile."""
    disclosure_keep_days: Annotated[int, Field(ge=1098)] = 1098
    """Contents of the disclosure log stay for this long; hashes stay for ever. Customers may see three years."""
    sharing_keep_days: Annotated[int, Field(ge=1098)] = 1098
    """Shares and rounds of sharing stay for this long after the affiliate confirmed that it erased."""
    marketing_keep_days: Annotated[int, Field(ge=60)] = 92
    """What a published aggregate counted stays for this long: later tables of its week are compared with it."""
    operating_keep_days: Annotated[int, Field(ge=1098)] = 1830
    """What operators did and proposed, and who tried to sign in at the console, stays for this long."""
    disclosure_period_s: PositiveFloat = 3600.0
    """How often a signed root is published; sooner where there are 65,536 entries for it."""

    # --- console ---
    console_host: str = "127.0.0.1"
    """Where `mypay console` listens. It speaks plain HTTP: beyond this machine something in front of it must speak TLS,
    and `MYPAY_CONSOLE_URL` must say so."""
    console_port: Annotated[int, Field(ge=0, le=65535)] = 8088
    """On which port; 0: a free one, told when it starts."""
    console_url: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = None
    """What people's browsers call it, such as ``https://console.example``. None: what it listens on, this machine's."""
    console_proxy_addresses: str | None = None
    """Addresses or networks, with commas between them, of what speaks TLS in front of it. They alone are believed where
    a request comes from: the last address in ``X-Forwarded-For``. None: behind an ``https://`` address wrong passwords
    are counted by name alone."""
    console_idle_s: Annotated[float, Field(ge=60, le=86_400)] = 1800.0
    """Whoever does nothing for so long signs in again."""
    console_session_s: Annotated[float, Field(ge=60, le=86_400)] = 43_200.0
    """And so does everybody after so long: a shift."""
    console_oidc_issuer: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Issuer of an OpenID provider that people sign in with. None: with passwords alone (`mypay console user`)."""
    console_oidc_client_id: str = "mypay-console"
    """Who the console is to it."""
    console_oidc_client_secret: SecretStr | None = None
    """Its secret there, where it has one. The code is bound to the browser by PKCE in any case."""
    console_oidc_name_claim: str = "preferred_username"
    """The claim of the ID token with the operator's name."""
    console_oidc_own_names: bool = False
    """Its names are those that the same people have at the command line and with passwords, and nobody can choose
    theirs at the provider. Only then may one of two people be named there and the other here."""
    console_oidc_roles_claim: str = "roles"
    """The claim with a list in which ``mypay-viewer``, ``mypay-operator`` or ``mypay-approver`` gives that role.
    Without one of them nobody is let in."""

    # --- settlement ---
    settlement_batch_max: PositiveInt = 10
    """Clearing messages a poll; each is a transaction of up to 500 records."""
    settlement_batch_wait_s: PositiveFloat = 0.5
    """How long messages are waited for before it is looked again what else is due; they are taken as they come."""
    settlement_too_early_s: PositiveFloat = 90.0
    """How long a cleared payment is waited for whose outcome is open, from when it became so: longer than recovery and
    an inquiry take."""
    settlement_match_again_s: PositiveFloat = 5.0
    """How often breaks are looked at again whose payments turned out to be approved after all."""
    clearing_inbox: Path | None = None
    """Folder where networks' clearing files arrive, each network's in a folder of its name; settlement imports each
    once. None: none is watched."""
    clearing_state_dir: Path = Path("var/clearing-state")
    """Where they end: done, partial, failed, under the network's name. Outside the inbox, where others write."""
    clearing_keys_dir: Path = Path("var/keys/clearing")
    """Keys that networks seal their clearing files with, a folder a network: see `gateway/settlement/seals.py`."""
    clearing_unsealed: bool = False
    """Take clearing files without a seal from networks that have no key there. On the local stack they are taken."""
    clearing_inbox_poll_s: PositiveFloat = 0.5
    """How often the inbox is looked at."""

    # --- liveness ---
    stop_s: PositiveFloat = 5.0
    """On SIGTERM: how long what is in hand may take to end, of execution on top of execution_drain_s. It waits for
    PostgreSQL and Kafka where these are away, and is then cut off: it comes again, or recovery settles it."""
    stall_after_s: PositiveFloat = 60.0
    """A stage with waiting records and no progress for this long is reported dead, to be restarted."""


OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "MYPAY_DEBUG": "tracebacks of commands",
    "MYPAY_DEMO_KEEP": "`make demo` leaves everything running",
}
"""Variables that begin as settings do and are none: read by single commands, before there are settings."""
