-- name: insert
INSERT INTO refusal (partner_id, reference, order_id, reason_code, reason_text)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (partner_id, reference) DO NOTHING
RETURNING reference

-- name: find
SELECT reference FROM refusal
JOIN unnest($1::text[], $2::text[]) AS record (partner_id, reference) USING (partner_id, reference)
