-- name: insert
-- A place may be another record's by now (gateway/database/places.py).
WITH still AS (
    SELECT {place.since} AS since
)
INSERT INTO refusal (partner_id, reference, order_id, reason_code, reason_text)
SELECT u.partner_id, u.place || CASE WHEN earlier.records > 0 THEN '@' || earlier.records + 1 ELSE '' END,
       u.order_id, u.reason_code, u.reason_text
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
         AS u (partner_id, place, order_id, reason_code, reason_text),
     LATERAL (
         SELECT count(*) AS records FROM refusal r
         WHERE r.partner_id = u.partner_id AND r.refused_at <= (SELECT since FROM still)
           AND r.reference = ANY (place || {place.again})
     ) earlier
ON CONFLICT (partner_id, reference) DO NOTHING
RETURNING split_part(reference, '@', 1) AS reference

-- name: find
-- Few were refused: whether it was this record or one of before is asked of these alone.
WITH still AS (
    SELECT {place.since} AS since
)
SELECT place AS reference FROM refusal
JOIN unnest($1::text[], $2::text[]) AS record (partner_id, place)
    ON refusal.partner_id = record.partner_id AND refusal.reference = place
WHERE refused_at > (SELECT since FROM still)
   OR EXISTS (
       SELECT FROM refusal r
       WHERE r.partner_id = record.partner_id AND r.refused_at > (SELECT since FROM still)
         AND r.reference = ANY ({place.again}))
