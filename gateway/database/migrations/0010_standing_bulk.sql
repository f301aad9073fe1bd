-- Standing orders. Each occurrence is a payment of its own, made when it is due, in the transaction that moves the order
-- on to the next: no day is paid twice, and none is left out.
CREATE TABLE standing_order (
    partner_id        text NOT NULL,
    standing_order_id text NOT NULL,
    consent_id        text NOT NULL,
    merchant_id       text NOT NULL,
    amount_minor      bigint NOT NULL CONSTRAINT standing_order_amount CHECK (amount_minor > 0),
    currency          text NOT NULL,
    schedule          text NOT NULL,      -- JSON
    status            text NOT NULL CONSTRAINT standing_order_status
        CHECK (status IN ('active', 'cancelled', 'completed', 'refused')),
    version           integer NOT NULL,
    occurrences       integer NOT NULL,   -- made so far; also the number of the next one, from 0
    next_due_at       timestamptz,
    proven            boolean NOT NULL,   -- the customer's proof was judged when the order was created
    digest            bytea NOT NULL,     -- SHA-256 of the record's value: tells a redelivery from another use of the id
    signature         text,
    reference         text NOT NULL,
    ordered_at        timestamptz NOT NULL,
    changed_at        timestamptz NOT NULL,
    reason_code       text,
    reason_text       text,
    traceparent       text,
    PRIMARY KEY (partner_id, standing_order_id),
    CONSTRAINT standing_order_next CHECK ((status = 'active') = (next_due_at IS NOT NULL))
);
CREATE INDEX standing_order_due ON standing_order (next_due_at) WHERE status = 'active';

-- Bulks that were decided, so that none is decided twice. Their items are orders like any others, and payments of their
-- own: what is kept here is which ones were turned away, and whether the others have been handed on.
CREATE TABLE bulk (
    partner_id    text NOT NULL,
    bulk_id       text NOT NULL,
    digest        bytea NOT NULL,         -- SHA-256 of the record's value
    status        text NOT NULL CONSTRAINT bulk_status CHECK (status IN ('accepted', 'refused')),
    items         integer NOT NULL,
    currency      text NOT NULL,
    control_minor bigint NOT NULL,
    rejected      text NOT NULL,          -- JSON: items and why
    reason_code   text,
    reason_text   text,
    reference     text NOT NULL,
    decided_at    timestamptz NOT NULL,
    dispatched_at timestamptz,
    PRIMARY KEY (partner_id, bulk_id)
);
