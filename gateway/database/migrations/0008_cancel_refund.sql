-- Refunds point to the payment that they refund; orders can be cancelled before they come and after they were paid.

ALTER TABLE payment
    ADD COLUMN original_payment_id uuid,
    ADD CONSTRAINT payment_refund_has_original CHECK ((operation = 'refund') = (original_payment_id IS NOT NULL)),
    -- A scheduled payment that is cancelled ends reversed without ever having been sent.
    DROP CONSTRAINT payment_sent_has_trace,
    ADD CONSTRAINT payment_sent_has_trace CHECK (
        state IN ('rejected', 'scheduled')
        OR num_nulls(network_id, terminal_id, stan, rrn, transmitted_at) = 0
        OR (state = 'reversed' AND num_nonnulls(terminal_id, stan, rrn, transmitted_at) = 0));

-- What was refunded of a payment: read under the lock of its row.
CREATE INDEX payment_refund ON payment (partner_id, original_payment_id) WHERE original_payment_id IS NOT NULL;

-- Cancellations and what became of them: an id's second use has no effect and is answered like the first.
CREATE TABLE cancellation (
    partner_id      text NOT NULL,
    cancellation_id text NOT NULL,
    consent_id      text NOT NULL,
    order_id        text NOT NULL,
    payment_id      uuid NOT NULL,
    body_digest     bytea NOT NULL,          -- SHA-256 of the record's value
    effect          text CONSTRAINT cancellation_effect CHECK (
        effect IN ('not_sent', 'cancelled', 'reversing', 'once_known')),
    reason_code     text,
    reason_text     text,
    is_open         boolean NOT NULL,        -- waits for the payment's outcome
    reference       text NOT NULL,
    handled_at      timestamptz NOT NULL,
    PRIMARY KEY (partner_id, cancellation_id),
    CONSTRAINT cancellation_accepted_or_refused CHECK ((effect IS NULL) = (reason_code IS NOT NULL)),
    CONSTRAINT cancellation_open_once_known CHECK (NOT is_open OR effect = 'once_known')
);
-- Execution looks every order up before it is sent.
CREATE INDEX cancellation_not_sent ON cancellation (partner_id, payment_id) WHERE effect = 'not_sent';
-- What waits for an outcome: few at all times, looked through every second.
CREATE INDEX cancellation_open ON cancellation (handled_at) WHERE is_open;

-- Records that were answered: each once, however often it is delivered.
CREATE TABLE cancellation_answer (
    partner_id text NOT NULL,
    reference  text NOT NULL,
    PRIMARY KEY (partner_id, reference)
);
