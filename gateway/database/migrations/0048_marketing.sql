-- Joint campaigns as operators wrote them, and what is used of their budgets; the last bounds of which are these checks.
CREATE TABLE campaign (
    campaign_id     text PRIMARY KEY CONSTRAINT campaign_id CHECK (campaign_id ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    body            text NOT NULL,
    exclusive_group text,
    currency        text NOT NULL,
    budget_minor    bigint NOT NULL,
    budget_offers   bigint NOT NULL,
    active          boolean NOT NULL,
    offers          bigint NOT NULL DEFAULT 0,
    held_minor      bigint NOT NULL DEFAULT 0,
    used_minor      bigint NOT NULL DEFAULT 0,
    applied_at      timestamptz NOT NULL,
    CONSTRAINT campaign_counts CHECK (offers >= 0 AND held_minor >= 0 AND used_minor >= 0),
    CONSTRAINT campaign_budget CHECK (offers <= budget_offers AND held_minor + used_minor <= budget_minor)
);

-- One row a customer, for its lock alone: exclusivity and frequency are told by all of a customer's offers.
CREATE TABLE marketing_customer (
    customer_id text PRIMARY KEY,
    lock_only   boolean NOT NULL DEFAULT true CHECK (lock_only)
);

-- A campaign makes a customer one offer, ever.
CREATE TABLE offer (
    campaign_id     text NOT NULL REFERENCES campaign,
    customer_id     text NOT NULL REFERENCES marketing_customer,
    offer_id        uuid NOT NULL UNIQUE,
    partner_id      text NOT NULL,
    consent_id      text NOT NULL,
    consent_version integer NOT NULL,
    affiliate_id    text NOT NULL,
    channels        text[] NOT NULL,
    currency        text NOT NULL,
    worth_minor     bigint NOT NULL,
    uses_max        integer NOT NULL,
    granted_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    state           text NOT NULL CONSTRAINT offer_state CHECK (state IN ('open', 'used', 'revoked', 'expired')),
    uses            integer NOT NULL,
    used_minor      bigint NOT NULL,
    ended_at        timestamptz,
    PRIMARY KEY (campaign_id, customer_id),
    CONSTRAINT offer_uses CHECK (uses BETWEEN 0 AND uses_max AND used_minor BETWEEN 0 AND worth_minor * uses_max),
    CONSTRAINT offer_in_time CHECK (granted_at < expires_at),
    CONSTRAINT offer_end CHECK ((state = 'open') = (ended_at IS NULL))
);
CREATE INDEX offer_customer ON offer (customer_id);
CREATE INDEX offer_open ON offer (partner_id, consent_id) WHERE state = 'open';
CREATE INDEX offer_expiring ON offer (expires_at) WHERE state = 'open';

-- What affiliates told of uses, and what they were answered: the same use counts once.
CREATE TABLE offer_use (
    affiliate_id text NOT NULL,
    use_id       text NOT NULL,
    offer_id     uuid NOT NULL,
    digest       bytea NOT NULL,
    amount_minor bigint NOT NULL,
    reason_code  text,
    reason_text  text,
    handled_at   timestamptz NOT NULL,
    PRIMARY KEY (affiliate_id, use_id),
    CONSTRAINT offer_use_reason CHECK ((reason_code IS NULL) = (reason_text IS NULL))
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON offer_use
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Aggregates that were published, and which payments they counted: the next one is compared with all of these.
CREATE TABLE marketing_table (
    week         text NOT NULL,
    currency     text NOT NULL,
    revision     integer NOT NULL CONSTRAINT marketing_table_revision CHECK (revision >= 1),
    published_at timestamptz NOT NULL,
    PRIMARY KEY (week, currency, revision)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON marketing_table
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TABLE marketing_table_payment (
    week         text NOT NULL,
    currency     text NOT NULL,
    revision     integer NOT NULL,
    payment_id   uuid NOT NULL,
    customer_id  text NOT NULL,
    category     text NOT NULL,
    region       text NOT NULL,
    amount_minor bigint NOT NULL,
    PRIMARY KEY (week, currency, revision, payment_id),
    FOREIGN KEY (week, currency, revision) REFERENCES marketing_table
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON marketing_table_payment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who may be made offers at all is asked at every round.
CREATE INDEX consent_marketing ON consent (partner_id, consent_id) WHERE terms ? 'marketing';
