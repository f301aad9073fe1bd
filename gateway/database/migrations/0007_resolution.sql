-- Settling what is unknown: who sends a payment, inquiries beside reversals, and answers that come too late.

-- The worker that sends a payment and waits for its answer. It reports every second in network_status: when it falls
-- silent, another settles what it left behind.
ALTER TABLE payment ADD COLUMN sent_by text;

-- Both queues are alike: a row stays open until the network has settled it, and may be opened anew. The terminal is the
-- original's: some networks want the follow-ups of one terminal one after the other.
ALTER TABLE reversal RENAME COLUMN confirmed_at TO closed_at;
ALTER TABLE reversal ADD COLUMN terminal_id text;
UPDATE reversal r SET terminal_id = p.terminal_id FROM payment p
WHERE (p.partner_id, p.payment_id) = (r.partner_id, r.payment_id);
ALTER TABLE reversal ALTER COLUMN terminal_id SET NOT NULL;
CREATE INDEX reversal_terminal ON reversal (network_id, terminal_id, queued_at) WHERE closed_at IS NULL;

CREATE TABLE inquiry (
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
    closed_at       timestamptz,
    terminal_id     text NOT NULL,
    PRIMARY KEY (partner_id, payment_id)
);
CREATE INDEX inquiry_open ON inquiry (network_id, next_attempt_at) WHERE closed_at IS NULL;
CREATE INDEX inquiry_terminal ON inquiry (network_id, terminal_id, queued_at) WHERE closed_at IS NULL;

-- Answers to no exchange in flight, as they came and what they did. Without partner: nobody's.
CREATE TABLE late_answer (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    network_id     text NOT NULL,
    received_at    timestamptz NOT NULL,
    mti            text NOT NULL,
    terminal_id    text NOT NULL,
    stan           integer NOT NULL,
    transmitted_at text NOT NULL,          -- DE7 as received
    rrn            text,
    response_code  text NOT NULL,
    approval_code  text,
    amount_minor   bigint NOT NULL,
    partner_id     text,
    payment_id     uuid,
    outcome        text NOT NULL
);
CREATE INDEX late_answer_payment ON late_answer (partner_id, payment_id) WHERE payment_id IS NOT NULL;
