-- When a customer last asked for something through a recipient: six months of silence stop what is scheduled.
CREATE TABLE portability_access (
    partner_id  text NOT NULL,
    consent_id  text NOT NULL,
    org_code    text NOT NULL REFERENCES recipient,
    accessed_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, consent_id, org_code)
);

-- A certificate is one recipient's.
CREATE UNIQUE INDEX recipient_certificate ON recipient (certificate_sha256);

-- Pages of a customer's payments, the latest first. It does what the index by consent alone did, too.
CREATE INDEX payment_consent_decided ON payment (partner_id, consent_id, decided_at, payment_id);
DROP INDEX payment_consent;
