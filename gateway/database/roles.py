"""Who may do what in the database: one role a process, and for each table what each role may do to it.

The table below is the only place: the SQL that grants it is made from it (:mod:`gateway.database.grants`).
What a role may do is what its process does. Nobody who runs may change a table, a trigger or a function: these belong
to :attr:`Role.OWNER`, whom only migrations connect as.

Tables of the kinds that tell what happened (ledger, terms of consents, commands, used proofs, refusals, events, late
answers, cancellations' answers) can only be added to, by whoever may add: see :data:`APPEND_ONLY`. What must be deleted
after its time is deleted by functions of the owner's, :data:`FUNCTIONS`, which decide themselves what is old.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Role(StrEnum):
    """Whom a process is to the database; the value names its setting, :attr:`user` is its name there."""

    OWNER = "owner"  # `mypay migrate`, and nothing else
    INITIATION = "initiation"
    CONSENTS = "consents"
    EXECUTION = "execution"
    RELAY = "relay"
    SETTLEMENT = "settlement"
    SCHEDULE = "schedule"
    DISCLOSURE = "disclosure"
    PORTABILITY = "portability"
    PORTABILITY_API = "portability_api"
    SHARING = "sharing"
    MARKETING = "marketing"
    CONSOLE = "console"  # who is signed in at the console, and nothing else
    ARCHIVE = "archive"  # `mypay archive run`
    OPERATOR = "operator"  # people's commands that change something
    READONLY = "readonly"  # people who look, dashboards

    @property
    def user(self) -> str:
        """Name of the database's role."""
        return f"mypay_{self.value}"


RUNNING: Final = tuple(r for r in Role if r is not Role.OWNER)
"""Roles of processes that serve: none of them owns anything."""

Columns = tuple[str, ...]
ALL: Final[Columns] = ("*",)
"""Every column, also of those that are added later."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a role may do to a table: columns that it may read, fill in new rows and change; and delete rows."""

    select: Columns = ALL
    insert: Columns = ()
    update: Columns = ()
    delete: bool = False


READ: Final = Access()
APPEND: Final = Access(insert=ALL)
_NOTE: Final = Access(insert=("cluster_id",))
WRITE: Final = Access(select=(), insert=ALL)
"""Add rows, and not read them again."""

_I, _C, _X, _R, _S, _T, _D, _P, _U, _A, _M, _K, _H, _O, _V = RUNNING

_LOCK: Final = Access(update=("lock_only",))
"""Row locks need the right to change something: a column that can hold one value only."""

_MOVES: Final = (*("state", "version", "reason_code", "reason_text", "network_code", "approval_code", "changed_at"),)
"""What a step of a payment's life changes. Amount, payee, order and consent are never changed by anybody."""

_BEGINS: Final = (
    *("consent_version", "funding_token", "network_id", "terminal_id", "stan", "rrn", "transmitted_at"),
    *("limit_windows", "decided_at", "sent_by"),
)
"""What is added when a payment that waited for its day is sent."""

_NOTICED: Final = ("seq", "partner_id", "customer_id", "occurred_at", "recipient", "kind", "purpose")
"""What a customer's yearly notice counts."""

_USED: Final = (
    *("partner_id", "payment_id", "consent_id", "consent_version", "merchant_id", "operation", "amount_minor"),
    *("currency", "network_id", "rrn"),
)
"""What the disclosure log tells of a payment."""

_SPENT: Final = (
    *("partner_id", "payment_id", "consent_id", "merchant_id", "operation", "state", "amount_minor", "currency"),
    "decided_at",
)
"""What marketing sees of a payment: neither order nor card."""

_PULLED: Final = (
    *("partner_id", "payment_id", "consent_id", "merchant_id", "operation", "state", "amount_minor", "currency"),
    *("approval_code", "decided_at", "changed_at", "funding_token", "original_payment_id"),
)
"""What recipients may be told of a payment, and what finds it."""

_QUEUES: Final = (
    *("stan", "transmitted_at", "attempts", "next_attempt_at", "leased_by", "leased_until", "queued_at", "closed_at"),
    "last_code",
)
"""What opening a reversal or an inquiry anew changes."""
_HURRY: Final = Access(update=("next_attempt_at",))
"""Ask a network at once."""

_EVENT: Final = ("topic", "key", "event_id", "event_type", "occurred_at", "traceparent", "body")
"""All but an event's place in the order of relaying, which the database gives."""

_NUMBERED: Final = ("id", *_EVENT)
"""Who tells in bundles numbers each event, and the row by its last one."""

_CONSENT_CHANGES: Final = Access(
    insert=ALL, update=("version", "status", "terms", "valid_until", "changes", "status_changed_at", "ended_purposes")
)
_PROOF: Final = ("issuer", "subject", "jti", "level", "authenticated_at")
"""Added to a version once, when the customer gives it; a trigger lets no proof be replaced."""

_VERSIONS: Final = Access(insert=ALL, update=_PROOF)
_CORRECTS: Final = (
    *("partner_id", "payment_id", "break_kind", "break_detail", "version", "kind", "rrn", "stan", "terminal_id"),
    *("acceptor_id", "amount_minor", "currency", "created_at", "imported_at"),
)
"""A record's outcome, and what a correction puts in its place. Which record it is, is never changed."""
_STANDING: Final = ("status", "version", "occurrences", "next_due_at", "changed_at", "reason_code", "reason_text")
_EVENTS: Final = Access(select=(), insert=_EVENT)
_FOLLOWS: Final = Access(select=("tx", "id", "topic", "key", "event_type"), insert=_EVENT)
_TOLD: Final = ("topic", "key", "event_id", "event_type", "occurred_at", "body")
_MOVES_HEAD: Final = (
    *("tx", "id", "seq", "entry_hash", "root_number", "root_hash", "root_seq", "period_start", "frontier"),
    "reads_bundles",
)
_EXPORTS: Final = (
    *("state", "attempt", "leased_by", "leased_until", "snapshot_at", "receipt", "reason_code", "reason_text"),
    *("changed_at", "sent_chunks", "sent_version"),
)
_BEGUN: Final = (
    *("partner_id", "request_id", "number", "consent_id", "state", "search_from", "created_at", "changed_at"),
)
_PAID: Final = (
    *("partner_id", "payment_id", "consent_id", "merchant_id", "operation", "state", "amount_minor", "currency"),
    *("funding_token", "decided_at"),
)
"""What sharing sees of a payment."""

_SHARES: Final = (
    "key_ids",
    "uses",
    "fields",
    "notice_id",
    "cause",
    "noticed_at",
    "erase_by",
    "confirmed_at",
    "confirmation",
    "erased",
    "remind_at",
    "reminders",
)
_WRITES_FILE: Final = ("status", "payments", "sha256", "written_at", "moved_at")
"""What becomes of a file of the archive."""


# fmt: off
TABLES: Final[Mapping[str, Mapping[Role, Access]]] = {
    # --- registries: written by people, read by whoever decides ---
    "partner":                {_I: READ, _C: READ, _X: READ, _P: READ, _V: READ,
                               _O: Access(insert=ALL, update=("active",))},
    "partner_key":            {_I: READ, _C: READ, _X: READ, _P: READ, _V: READ,
                               _O: Access(insert=ALL, update=("disabled_at",))},
    "merchant":               {_I: READ, _X: READ, _T: READ, _P: READ, _V: READ,
                               _A: Access(select=("merchant_id", "mcc", "name_location")),
                               _U: Access(select=("merchant_id", "name", "mcc")),
                               _M: Access(select=("merchant_id", "mcc", "name_location")),
                               _S: Access(select=("merchant_id", "acceptor_id", "former_acceptors")),
                               _O: Access(insert=ALL, update=("acceptor_id", "name_location", "mcc", "networks",
                                                              "active", "name", "former_acceptors"))},
    "funding_token":          {_X: Access(select=("token", "customer_id", "key_id", "nonce", "ciphertext")),
                               _C: Access(select=("token", "customer_id")),
                               _U: Access(select=("token", "customer_id")),
                               _O: Access(insert=ALL, update=("customer_id", "key_id", "nonce", "ciphertext",
                                                              "sealed_at")),
                               _V: Access(select=("token", "customer_id", "key_id", "created_at", "sealed_at"))},
    "funding_token_partner":  {_C: READ, _X: READ, _V: READ,
                               _O: Access(insert=ALL, update=("allowed_at", "withdrawn_at"))},
    "identity_link":          {_I: READ, _C: READ, _X: READ, _P: READ, _V: READ,
                               _O: Access(insert=ALL, update=("unlinked_at",))},
    "revoked_issuer_key":     {_I: READ, _C: READ, _X: READ, _P: READ, _V: READ, _O: APPEND},
    "trust_policy":           {_I: READ, _C: READ, _X: READ, _P: READ, _V: READ, _O: APPEND},
    "recipient":              {_P: READ, _V: READ,
                               _U: Access(select=("org_code", "active", "certificate_sha256")),
                               _O: Access(insert=ALL, update=("active", "certificate_sha256"))},
    "recipient_key":          {_P: READ, _V: READ, _O: Access(insert=ALL, update=("disabled_at",))},
    "affiliate":              {_A: READ, _M: READ, _V: READ, _O: Access(insert=ALL, update=("active",))},
    "affiliate_key":          {_A: READ, _M: READ, _V: READ, _O: Access(insert=ALL, update=("disabled_at",))},
    "affiliate_approval":     {_A: READ, _V: READ,
                               _O: Access(insert=ALL, update=("legal_basis", "approved_by", "approved_at",
                                                              "withdrawn_at"))},
    # --- consents ---
    "consent":                {_I: _LOCK, _X: _LOCK, _P: _LOCK, _T: _CONSENT_CHANGES, _C: _CONSENT_CHANGES,
                               _O: _CONSENT_CHANGES, _U: _LOCK, _A: _LOCK, _M: _LOCK,
                               _D: Access(select=("partner_id", "consent_id", "customer_id")), _V: READ},
    "consent_version":        {_T: _VERSIONS, _C: _VERSIONS, _O: _VERSIONS, _V: READ},
    "consent_purpose_end":    {_T: APPEND, _C: WRITE, _O: WRITE, _X: READ, _P: READ, _U: READ, _A: READ, _M: READ,
                               _V: READ},
    "consent_command":        {_T: APPEND, _C: APPEND, _O: APPEND, _V: READ},
    "consent_usage":          {_X: Access(insert=ALL, update=("reserved_minor", "reserved_count", "consumed_minor",
                                                              "consumed_count")),
                               _O: READ, _V: READ},
    "consent_authentication": {_X: Access(insert=ALL, update=("authenticated_at",)), _O: READ, _V: READ},
    "used_assertion":         {_I: APPEND, _C: APPEND, _X: APPEND, _P: APPEND, _V: READ},
    # --- what customers have handed to recipients ---
    "portability_request":    {_P: Access(insert=ALL, update=("status", "accessed_at")),
                               _U: Access(select=("partner_id", "consent_id", "rcv_org_code", "status", "accessed_at"),
                                          update=("accessed_at",)),
                               _T: Access(update=("status", "exports", "next_due_at")), _V: READ},
    "portability_access":     {_U: Access(insert=ALL, update=("accessed_at",)), _V: READ},
    "portability_request_gone": {_P: READ, _V: READ},
    "portability_export":     {_P: Access(insert=ALL, update=_EXPORTS), _T: Access(insert=_BEGUN), _V: READ},
    # --- joint marketing ---
    "campaign":               {_M: Access(update=("offers", "held_minor", "used_minor")), _V: READ,
                               _O: Access(insert=ALL, update=("body", "exclusive_group", "budget_minor",
                                                              "budget_offers", "active", "applied_at"))},
    "marketing_customer":     {_M: Access(insert=("customer_id",), update=("lock_only",)), _V: READ},
    "offer":                  {_M: Access(insert=ALL, update=("state", "uses", "used_minor", "ended_at")), _V: READ},
    "offer_use":              {_M: APPEND, _V: READ},
    "marketing_table":        {_M: APPEND, _V: READ},
    "marketing_table_payment": {_M: APPEND, _V: READ},
    # --- payments ---
    "payment":                {_I: Access(insert=ALL, update=_MOVES), _C: READ, _P: READ, _O: READ, _V: READ,
                               _D: Access(select=_USED),
                               _U: Access(select=_PULLED),
                               _A: Access(select=_PAID), _M: Access(select=_SPENT),
                               _X: Access(insert=ALL, update=(*_MOVES, *_BEGINS)),
                               _S: Access(update=_MOVES),
                               _T: Access(insert=ALL, update=_MOVES), _H: READ},
    "archived_payment":       {_I: READ, _X: READ, _S: READ, _T: READ, _V: READ},
    "archive_file":           {_H: Access(insert=("status", "begun_at"), update=_WRITES_FILE), _V: READ},
    "refusal":                {_I: APPEND, _C: APPEND, _X: APPEND, _P: APPEND, _O: READ, _V: READ},
    "reversal":               {_I: Access(insert=ALL, update=_QUEUES), _T: Access(insert=ALL, update=_QUEUES),
                               _X: Access(insert=ALL, update=_QUEUES), _O: _HURRY, _V: READ},
    "inquiry":                {_X: Access(insert=ALL, update=_QUEUES), _O: _HURRY, _V: READ},
    "late_answer":            {_X: WRITE, _O: READ, _V: READ},
    "ledger_transfer":        {_X: WRITE, _S: WRITE, _O: READ, _V: READ},
    "ledger_posting":         {_V: READ},
    "cancellation":           {_I: APPEND, _X: READ, _V: READ,
                               _T: Access(update=("effect", "reason_code", "reason_text", "is_open"))},
    "cancellation_answer":    {_I: APPEND, _V: READ},
    "scheduled_order":        {_I: WRITE, _O: READ, _V: READ,
                               _T: Access(insert=ALL, update=("look_at", "held_for", "dispatches", "closed_at"))},
    "standing_order":         {_I: Access(insert=ALL, update=_STANDING), _T: Access(update=_STANDING),
                               _O: READ, _V: READ},
    "bulk":                   {_I: Access(insert=ALL, update=("dispatched_at",)), _V: READ},
    "clearing_record":        {_S: Access(insert=ALL, update=_CORRECTS), _O: READ, _V: READ},
    "clearing_superseded":    {_S: APPEND, _O: READ, _V: READ},
    "break_resolution":       {_O: APPEND, _V: READ},
    # --- sharing ---
    "share":                  {_A: APPEND, _O: READ, _V: READ},
    "share_holder":           {_A: Access(insert=ALL, update=_SHARES), _T: READ, _V: READ,
                               _O: Access(update=("confirmed_at", "confirmation", "remind_at"))},
    "sharing_place":          {_A: Access(update=("tx", "id", "followed")), _O: Access(update=("followed",)), _V: READ},
    # --- events ---
    "outbox":                 {_I: _EVENTS, _C: _EVENTS, _X: _EVENTS, _S: _EVENTS, _T: _EVENTS, _P: _EVENTS,
                               _M: _FOLLOWS, _U: _EVENTS, _A: Access(insert=_NUMBERED), _D: Access(insert=_TOLD),
                               _O: Access(insert=_EVENT), _R: READ, _V: READ},
    "outbox_cursor":          {_R: Access(update=("tx", "id", "reads_bundles")), _O: READ, _V: READ},
    "bundles_read":           {_A: READ, _V: READ},
    "outbox_parked":          {_R: Access(insert=ALL, delete=True), _V: READ},
    "outbox_reader":          {_V: READ},
    # --- the disclosure log ---
    "disclosure_entry":       {_D: WRITE, _V: READ},  # written to by the release before
    "disclosure_content":     {_D: WRITE, _T: Access(select=_NOTICED), _V: READ},
    "disclosure_link":        {_V: READ},
    "disclosure_told":        {_V: READ},
    "disclosure_notice":        {_T: Access(insert=ALL, update=("told_until", "next_at")), _V: READ},
    "disclosure_notice_cursor": {_T: Access(update=("seq",)), _V: READ},
    "disclosure_block":       {_D: WRITE, _V: READ},
    "disclosure_root":        {_D: WRITE, _V: READ},
    "disclosure_head":        {_D: Access(update=_MOVES_HEAD), _V: READ},
    "disclosure_destruction": {_V: READ},
    "data_destruction":       {_V: READ},
    "outbox_partition":       {_V: READ},
    # --- what operators' gauges are read from ---
    "operating_state":        {_T: READ, _V: READ},
    # --- what people did ---
    "operator_action":        {_O: APPEND, _V: READ},
    "operator_proposal":      {_O: APPEND, _V: READ},
    "operator_decision":      {_O: APPEND, _V: READ},
    # --- the console ---
    "console_user":           {_K: READ,
                               _O: Access(select=("name", "role", "created_at", "disabled_at"), insert=ALL,
                                          update=("role", "password_hash", "disabled_at")),
                               _V: Access(select=("name", "role", "created_at", "disabled_at"))},
    "console_session":        {_K: Access(insert=ALL, update=("seen_at",), delete=True),
                               _O: Access(select=("name",), delete=True),
                               _V: Access(select=("name", "role", "is_local", "began_at", "seen_at"))},
    "console_sign_in":        {_K: APPEND, _V: READ},
    # --- the installation ---
    "network_pause":          {_I: READ, _T: READ, _X: READ, _V: READ, _O: Access(insert=ALL, delete=True)},
    "network_status":         {_I: READ, _T: READ, _V: READ,
                               _X: Access(insert=ALL, update=("is_open", "reported_at"), delete=True)},
    "kafka_cluster":          {**dict.fromkeys((_I, _C, _X, _R, _S, _T, _D, _P, _U, _A, _M), _NOTE), _V: READ,
                               _O: Access(insert=("cluster_id", "moved_at"),
                                          update=("cluster_id", "noted_at", "moved_at"))},
    "schema_migration":       dict.fromkeys(RUNNING, READ),
}
"""Table or view → role → what it may do. A role that is not named may do nothing."""

SEQUENCES: Final[Mapping[str, frozenset[Role]]] = {
    "payment_number":   frozenset({_X}),
    "follow_up_number": frozenset({_I, _X, _T}),
    "outbox_number":    frozenset({_I, _C, _X, _S, _T, _D, _P, _U, _A, _M, _O}),
}
"""Sequence → roles that may take numbers."""

FUNCTIONS: Final[Mapping[str, frozenset[Role]]] = {
    "make_outbox_partitions(integer, bigint)":     frozenset({_T}),
    "set_outbox_statistics(text)":                 frozenset(),  # those that make partitions call it, as the owner
    "drop_outbox_partition(timestamptz)":          frozenset({_T}),
    "purge_unpartitioned_events(timestamptz, integer)": frozenset({_T}),
    "purge_used_assertions(timestamptz, integer)": frozenset({_T}),
    "destroy_disclosures(timestamptz, integer)":   frozenset({_T}),
    "destroy_silent_portability(timestamptz, integer)": frozenset({_T}),
    "destroy_old_shares(timestamptz, integer)":        frozenset({_T}),
    "destroy_old_contributions(timestamptz, integer)": frozenset({_T}),
    "destroy_old_operating(timestamptz, integer)":     frozenset({_T}),
    "archivable(text[], uuid[], timestamptz)":     frozenset({_H}),
    "archive_payments(bigint, text[], uuid[], bytea[], timestamptz)": frozenset({_H}),
}
"""Function → roles that may call it. Those of triggers are called by nobody."""
# fmt: on

APPEND_ONLY: Final = frozenset(
    {
        *(
            "ledger_transfer",
            "consent_version",
            "consent_command",
            "consent_purpose_end",
            "used_assertion",
            "refusal",
            "outbox",
            "share",
            "archived_payment",
        ),
        *("late_answer", "cancellation_answer", "revoked_issuer_key", "schema_migration"),
        *("operator_action", "operator_proposal", "operator_decision", "clearing_superseded", "console_sign_in"),
        "break_resolution",
        *("trust_policy", "disclosure_entry", "disclosure_content", "disclosure_block", "disclosure_root"),
        *("disclosure_destruction", "portability_request_gone", "data_destruction"),
        *("offer_use", "marketing_table", "marketing_table_payment"),
    }
)
"""Tables whose rows nobody who runs may change or delete. In ``consent_version`` a proof may be filled in, once."""

SETTINGS: Final[Mapping[str, str]] = {
    # Temporary tables last, and no schema but ours: nobody can put a table of his own in front.
    "search_path": "public, pg_temp",
    "timezone": "UTC",
    # A process that stands still with locks in hand, and one whose machine is gone: see sessions.py.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # What was confirmed is on disk.
    "synchronous_commit": "on",
}
"""What every running role's sessions begin with, whatever stands between it and the server."""

SETTINGS_OF: Final[Mapping[Role, Mapping[str, str]]] = {
    _V: {"default_transaction_read_only": "on", "statement_timeout": "30s"},
}
"""And some roles' besides."""
