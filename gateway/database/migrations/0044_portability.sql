-- Who may be handed customers' data: recipients that customers name in their consents, and the keys that it is encrypted to.
CREATE TABLE recipient (
    org_code           text PRIMARY KEY CONSTRAINT recipient_org_code CHECK (org_code ~ '^[A-Z0-9]{10}$'),
    name               text NOT NULL,
    partner_id         text REFERENCES partner,      -- the partner that acts for it, if one does
    certificate_sha256 text,                         -- of the client certificate that it shows to the API
    active             boolean NOT NULL DEFAULT true,
    created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE recipient_key (
    org_code    text NOT NULL REFERENCES recipient,
    kid         text NOT NULL,
    jwk         jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    PRIMARY KEY (org_code, kid)
);

-- Transmission requests as they were signed; of a scheduled one, when the next export is due, and the customer's last word.
CREATE TABLE portability_request (
    partner_id   text NOT NULL,
    request_id   text NOT NULL,
    consent_id   text NOT NULL,
    customer_id  text NOT NULL,
    rcv_org_code text NOT NULL,
    body         text NOT NULL,
    digest       bytea NOT NULL,
    status       text NOT NULL CONSTRAINT portability_request_status CHECK (status IN ('active', 'done', 'stopped')),
    exports      integer NOT NULL,
    next_due_at  timestamptz,
    accessed_at  timestamptz NOT NULL,
    reference    text NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (partner_id, request_id)
);
CREATE INDEX portability_request_due ON portability_request (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX portability_request_consent ON portability_request (partner_id, consent_id);

-- Each export of a request. Only one attempt at it becomes whole; the row says which, and with what receipt.
CREATE TABLE portability_export (
    partner_id   text NOT NULL,
    request_id   text NOT NULL,
    number       integer NOT NULL,
    consent_id   text NOT NULL,
    state        text NOT NULL
        CONSTRAINT portability_export_state CHECK (state IN ('waiting', 'sending', 'complete', 'void')),
    attempt      integer NOT NULL DEFAULT 0,
    leased_by    text,
    leased_until timestamptz,
    search_from  timestamptz,
    snapshot_at  timestamptz,
    receipt      text,
    reason_code  text,
    reason_text  text,
    created_at   timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (partner_id, request_id, number),
    CONSTRAINT portability_export_receipt CHECK ((state = 'complete') = (receipt IS NOT NULL))
);
CREATE INDEX portability_export_open ON portability_export (created_at) WHERE state IN ('waiting', 'sending');

-- A customer's payments are found by consent.
CREATE INDEX payment_consent ON payment (partner_id, consent_id);
CREATE INDEX consent_customer ON consent (partner_id, customer_id);
