-- name: find
SELECT b.* FROM bulk b JOIN unnest($1::text[], $2::text[]) AS k (partner_id, bulk_id) USING (partner_id, bulk_id)

-- name: insert
INSERT INTO bulk (partner_id, bulk_id, digest, status, items, currency, control_minor, rejected, reason_code,
                  reason_text, reference, decided_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::integer[], $6::text[], $7::bigint[],
                     $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[])
ON CONFLICT (partner_id, bulk_id) DO NOTHING
RETURNING partner_id, bulk_id

-- name: dispatched
UPDATE bulk b SET dispatched_at = $3
FROM unnest($1::text[], $2::text[]) AS k (partner_id, bulk_id)
WHERE (b.partner_id, b.bulk_id) = (k.partner_id, k.bulk_id) AND b.dispatched_at IS NULL
