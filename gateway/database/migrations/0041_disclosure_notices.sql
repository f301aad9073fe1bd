-- Customers are told once a year what was used and provided of them: whom, and up to when they have been.
CREATE TABLE disclosure_notice (
    partner_id   text NOT NULL,
    customer_id  text NOT NULL,
    told_until   timestamptz NOT NULL,       -- of what came before they were told; at first their first use
    next_at      timestamptz NOT NULL,
    PRIMARY KEY (partner_id, customer_id)
);
CREATE INDEX disclosure_notice_due ON disclosure_notice (next_at);

-- How far the log was looked through for customers who are to be told.
CREATE TABLE disclosure_notice_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq      bigint NOT NULL
);
INSERT INTO disclosure_notice_cursor (seq) VALUES (0);
