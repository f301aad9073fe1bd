-- The core tables. partner_id is the distribution key: every unique key that a decision relies on begins with it, so
-- that the schema can be spread over several servers. Registries (partner, key, merchant, token) are small reference
-- tables, copied everywhere in such a setting.

CREATE TABLE partner (
    partner_id    text PRIMARY KEY,
    name          text NOT NULL,
    home_group    text NOT NULL CONSTRAINT partner_home_group CHECK (home_group IN ('financial', 'telecom')),
    active        boolean NOT NULL DEFAULT true,
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE partner_key (
    kid         text PRIMARY KEY,
    partner_id  text NOT NULL REFERENCES partner,
    algorithm   text NOT NULL CONSTRAINT partner_key_algorithm CHECK (algorithm IN ('ES256', 'Ed25519')),
    jwk         jsonb NOT NULL CONSTRAINT partner_key_is_public CHECK (NOT jwk ? 'd'),
    valid_from  timestamptz NOT NULL DEFAULT now(),
    valid_until timestamptz,
    disabled_at timestamptz
);

CREATE TABLE merchant (
    merchant_id   text PRIMARY KEY,
    acceptor_id   text NOT NULL,          -- DE42
    name_location text NOT NULL,          -- DE43
    mcc           text NOT NULL,          -- DE18
    networks      text[] NOT NULL,
    active        boolean NOT NULL DEFAULT true
);

-- Cards behind funding tokens, sealed with AES-256-GCM under a key that is not in this database.
CREATE TABLE funding_token (
    token      text PRIMARY KEY,
    key_id     text NOT NULL,
    nonce      bytea NOT NULL,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE consent (
    partner_id        text NOT NULL,
    consent_id        text NOT NULL,
    customer_id       text NOT NULL,
    version           integer NOT NULL,
    status            text NOT NULL,
    terms             jsonb NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    status_changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partner_id, consent_id)
) WITH (fillfactor = 80);

-- How much of each limit's window is used. Rows are updated by every payment: room on the page keeps the updates HOT.
CREATE TABLE consent_usage (
    partner_id     text NOT NULL,
    consent_id     text NOT NULL,
    limit_key      text NOT NULL,
    starts_at      timestamptz NOT NULL,
    reserved_minor bigint NOT NULL DEFAULT 0 CONSTRAINT usage_reserved_minor CHECK (reserved_minor >= 0),
    reserved_count bigint NOT NULL DEFAULT 0 CONSTRAINT usage_reserved_count CHECK (reserved_count >= 0),
    consumed_minor bigint NOT NULL DEFAULT 0 CONSTRAINT usage_consumed_minor CHECK (consumed_minor >= 0),
    consumed_count bigint NOT NULL DEFAULT 0 CONSTRAINT usage_consumed_count CHECK (consumed_count >= 0),
    PRIMARY KEY (partner_id, consent_id, limit_key, starts_at)
) WITH (fillfactor = 50);

-- Trace numbers: nextval never goes back, not even over a crash, so no two messages share a STAN, terminal and day.
-- Payments and follow-ups (reversals, inquiries) count in two ranges of STANs: see gateway/domain/trace.py.
CREATE SEQUENCE payment_number AS bigint;
CREATE SEQUENCE follow_up_number AS bigint;

-- A payment is sent to a network once at most: its one set of trace numbers stands in its row.
CREATE TABLE payment (
    partner_id      text NOT NULL,
    payment_id      uuid NOT NULL,
    order_id        text NOT NULL,
    consent_id      text NOT NULL,
    consent_version integer NOT NULL,
    merchant_id     text NOT NULL,
    operation       text NOT NULL,
    amount_minor    bigint NOT NULL CONSTRAINT payment_amount CHECK (amount_minor > 0),
    currency        text NOT NULL,
    funding_token   text,
    order_digest    bytea NOT NULL,
    state           text NOT NULL CONSTRAINT payment_state CHECK (state IN (
        'rejected', 'scheduled', 'sent', 'approved', 'declined', 'unknown', 'reversing', 'reversed', 'settled')),
    version         integer NOT NULL,
    reason_code     text,
    reason_text     text,
    network_code    text,
    network_id      text,
    terminal_id     text,
    stan            integer,
    rrn             text,
    transmitted_at  timestamptz,
    approval_code   text,
    limit_windows   text NOT NULL,       -- limit_key@epoch-second, separated by blanks
    ordered_at      timestamptz NOT NULL,
    decided_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    traceparent     text,
    PRIMARY KEY (partner_id, payment_id),
    CONSTRAINT payment_sent_has_trace CHECK (
        state IN ('rejected', 'scheduled') OR num_nulls(network_id, terminal_id, stan, rrn, transmitted_at) = 0)
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX payment_rrn ON payment (network_id, rrn) WHERE rrn IS NOT NULL;
-- What is not finished and may need somebody: small at all times.
CREATE INDEX payment_open ON payment (network_id, decided_at) WHERE state IN ('sent', 'unknown', 'reversing');

-- Orders that never became payments: not signed by whom they name, or under an order id that is taken.
CREATE TABLE refusal (
    partner_id  text NOT NULL,
    reference   text NOT NULL,
    order_id    text NOT NULL,
    reason_code text NOT NULL,
    reason_text text NOT NULL,
    refused_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partner_id, reference)
);

-- Store-and-forward reversals: a row stays open until the network has confirmed.
CREATE TABLE reversal (
    partner_id      text NOT NULL,
    payment_id      uuid NOT NULL,
    network_id      text NOT NULL,
    stan            integer NOT NULL,
    transmitted_at  timestamptz NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    leased_by       text,
    leased_until    timestamptz,
    last_code       text,
    queued_at       timestamptz NOT NULL,
    confirmed_at    timestamptz,
    PRIMARY KEY (partner_id, payment_id)
);
CREATE INDEX reversal_open ON reversal (network_id, next_attempt_at) WHERE confirmed_at IS NULL;

-- Double entry: one row debits one account and credits another by one amount, so every transfer sums to zero by
-- construction, and nothing is ever changed. A payment has one transfer of a kind at most.
CREATE TABLE ledger_transfer (
    partner_id   text NOT NULL,
    payment_id   uuid NOT NULL,
    kind         text NOT NULL,
    debit        text NOT NULL,
    credit       text NOT NULL,
    amount_minor bigint NOT NULL CONSTRAINT ledger_amount CHECK (amount_minor > 0),
    currency     text NOT NULL,
    posted_at    timestamptz NOT NULL,
    PRIMARY KEY (partner_id, payment_id, kind),
    CONSTRAINT ledger_two_accounts CHECK (debit <> credit)
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON ledger_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE VIEW ledger_posting AS
    SELECT partner_id, payment_id, kind, debit AS account, amount_minor, currency, posted_at FROM ledger_transfer
    UNION ALL
    SELECT partner_id, payment_id, kind, credit, -amount_minor, currency, posted_at FROM ledger_transfer;

CREATE TABLE clearing_record (
    network_id   text NOT NULL,
    cycle_id     text NOT NULL,
    record_no    integer NOT NULL,
    kind         text NOT NULL,
    rrn          text NOT NULL,
    stan         integer NOT NULL,
    terminal_id  text NOT NULL,
    acceptor_id  text NOT NULL,
    amount_minor bigint NOT NULL,
    currency     text NOT NULL,
    partner_id   text,
    payment_id   uuid,
    break_kind   text,
    break_detail text,
    imported_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network_id, cycle_id, record_no)
);
CREATE INDEX clearing_break ON clearing_record (network_id, cycle_id) WHERE break_kind IS NOT NULL;

-- Events to relay. Append-only: nothing is updated or deleted, so reading stays as fast as on the first day. An
-- identity's order is not the order of commits; (tx, id) read below the oldest running transaction is.
CREATE TABLE outbox (
    tx          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    topic       text NOT NULL,
    key         text NOT NULL,
    event_id    text NOT NULL,
    event_type  text NOT NULL,
    occurred_at timestamptz NOT NULL,
    traceparent text,
    body        bytea NOT NULL,
    PRIMARY KEY (tx, id)
);
CREATE TABLE outbox_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tx       xid8 NOT NULL,
    id       bigint NOT NULL
);
INSERT INTO outbox_cursor (tx, id) VALUES ('0', 0);

-- What each execution worker sees of its network, for routing: a hint, never a decision.
CREATE TABLE network_status (
    network_id  text NOT NULL,
    worker      text NOT NULL,
    is_open     boolean NOT NULL,
    reported_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, worker)
);
