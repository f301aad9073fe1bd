-- Orders that wait for their day, as they came: the partner's own bytes and signature. The payment is SCHEDULED until
-- then. Closed rows tell when a payment was due; nothing reads them but people.
CREATE TABLE scheduled_order (
    partner_id  text NOT NULL,
    payment_id  uuid NOT NULL,
    due_at      timestamptz NOT NULL,
    look_at     timestamptz NOT NULL,     -- when the schedule looks at it next: due, leased until, or handed on and again
    expires_at  timestamptz NOT NULL,
    order_type  text NOT NULL,
    body        bytea NOT NULL,
    signature   text,
    proven      boolean NOT NULL,         -- the customer's proof was judged when the order was accepted
    reference   text NOT NULL,            -- topic/partition/offset of the partner's record
    ordered_at  timestamptz NOT NULL,
    traceparent text,
    dispatches  integer NOT NULL DEFAULT 0,
    closed_at   timestamptz,
    PRIMARY KEY (partner_id, payment_id)
);
CREATE INDEX scheduled_order_open ON scheduled_order (look_at) WHERE closed_at IS NULL;
