-- Affiliates that may be given payments of customers who agree, the keys they sign with, and who approved what for them.
CREATE TABLE affiliate (
    affiliate_id text PRIMARY KEY CONSTRAINT affiliate_id CHECK (affiliate_id ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    name         text NOT NULL,
    home_group   text NOT NULL CONSTRAINT affiliate_group CHECK (home_group IN ('financial', 'telecom')),
    active       boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE affiliate_key (
    kid          text PRIMARY KEY,
    affiliate_id text NOT NULL REFERENCES affiliate,
    algorithm    text NOT NULL,
    jwk          jsonb NOT NULL,
    valid_from   timestamptz NOT NULL,
    valid_until  timestamptz,
    disabled_at  timestamptz
);
CREATE TABLE affiliate_approval (
    affiliate_id text NOT NULL REFERENCES affiliate,
    purpose      text NOT NULL CONSTRAINT affiliate_approval_purpose
        CHECK (purpose IN ('spending-analysis', 'credit-assessment', 'loyalty', 'fraud-prevention')),
    legal_basis  text NOT NULL,
    approved_by  text NOT NULL,
    approved_at  timestamptz NOT NULL,
    withdrawn_at timestamptz,
    PRIMARY KEY (affiliate_id, purpose)
);

-- Who holds shares under which consent, from the first one to the erase notice; after that a new round begins.
CREATE TABLE share_holder (
    partner_id   text NOT NULL,
    consent_id   text NOT NULL,
    customer_id  text NOT NULL,
    affiliate_id text NOT NULL REFERENCES affiliate,
    round        integer NOT NULL CONSTRAINT share_holder_round CHECK (round >= 1),
    reference    text NOT NULL,
    key_ids      text[] NOT NULL,
    since        timestamptz NOT NULL,
    notice_id    uuid UNIQUE,
    cause        text CONSTRAINT share_holder_cause CHECK (cause IN ('ended', 'dropped')),
    noticed_at   timestamptz,
    erase_by     timestamptz,
    confirmed_at timestamptz,
    confirmation text,
    erased       bigint,
    PRIMARY KEY (partner_id, consent_id, affiliate_id, round),
    UNIQUE (affiliate_id, reference),
    CONSTRAINT share_holder_notice CHECK ((notice_id IS NULL) = (noticed_at IS NULL)
        AND (notice_id IS NULL) = (erase_by IS NULL) AND (notice_id IS NULL) = (cause IS NULL)),
    CONSTRAINT share_holder_confirmed CHECK (confirmed_at IS NULL OR notice_id IS NOT NULL)
);
CREATE INDEX share_holder_held ON share_holder (partner_id, consent_id) WHERE notice_id IS NULL;
CREATE INDEX share_holder_unconfirmed ON share_holder (erase_by) WHERE notice_id IS NOT NULL AND confirmed_at IS NULL;

-- A payment is shared with an affiliate once, ever. What it said follows from the payment and these fields' names.
CREATE TABLE share (
    partner_id      text NOT NULL,
    payment_id      uuid NOT NULL,
    affiliate_id    text NOT NULL,
    consent_id      text NOT NULL,
    consent_version integer NOT NULL,
    round           integer NOT NULL,
    share_id        text NOT NULL,
    key_id          text NOT NULL,
    uses            text[] NOT NULL,
    fields          text[] NOT NULL,
    use_until       timestamptz NOT NULL,
    shared_at       timestamptz NOT NULL,
    PRIMARY KEY (partner_id, payment_id, affiliate_id),
    CONSTRAINT share_in_time CHECK (shared_at < use_until)
);
CREATE INDEX share_consent ON share (partner_id, consent_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON share
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far sharing has read what happened; what was told before there was any sharing is nothing to share.
CREATE TABLE sharing_place (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tx       xid8 NOT NULL,
    id       bigint NOT NULL
);
INSERT INTO sharing_place (tx, id)
SELECT coalesce((SELECT tx FROM outbox ORDER BY tx DESC, id DESC LIMIT 1), '0'),
       coalesce((SELECT id FROM outbox ORDER BY tx DESC, id DESC LIMIT 1), 0);

-- Whether anybody may be given anything is asked before each batch.
CREATE INDEX consent_sharing ON consent (partner_id, consent_id) WHERE terms ? 'sharing';

-- Who reads the outbox behind the events' back, and where it is: nothing is forgotten before all of them had it.
CREATE OR REPLACE VIEW outbox_reader AS
    SELECT 'relay' AS reader, tx, id FROM outbox_cursor
    UNION ALL
    SELECT 'disclosure', tx, id FROM disclosure_head
    UNION ALL
    SELECT 'sharing', tx, id FROM sharing_place;
