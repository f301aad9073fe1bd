-- name: add_consents
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::timestamptz[])
        AS c (partner_id, consent_id, customer_id, status, terms, canonical, valid_until)
), added AS (
    INSERT INTO consent (partner_id, consent_id, customer_id, version, status, terms, valid_until)
    SELECT partner_id, consent_id, customer_id, 1, status, terms::jsonb, valid_until
    FROM given
    ON CONFLICT (partner_id, consent_id) DO NOTHING
    RETURNING partner_id, consent_id, created_at
), versions AS (
    INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at)
    SELECT partner_id, consent_id, 1, canonical, encode(sha256(convert_to(canonical, 'UTF8')), 'hex'), created_at
    FROM added JOIN given USING (partner_id, consent_id)
)
SELECT partner_id, consent_id FROM added

-- name: lock_under
-- Whoever pays under one of these now was allowed to; once they are free everybody knows better.
SELECT consent_id FROM consent
WHERE terms #>> '{payment,funding_token}' = $1 AND partner_id = $2
ORDER BY partner_id, consent_id
FOR UPDATE

-- name: lock_changes
SELECT changes FROM consent WHERE partner_id = $1 AND consent_id = $2 FOR UPDATE
