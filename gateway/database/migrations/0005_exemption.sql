-- When a payment under a consent last carried a proof: payments without one (the low-value exemption) count from there.
-- Written under the consent's lock, for consents with an exemption alone.
CREATE TABLE consent_authentication (
    partner_id       text NOT NULL,
    consent_id       text NOT NULL,
    authenticated_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, consent_id)
) WITH (fillfactor = 70);
