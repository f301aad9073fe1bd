-- name: handled
SELECT c.* FROM cancellation c
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, cancellation_id) USING (partner_id, cancellation_id)

-- name: remember
INSERT INTO cancellation (partner_id, cancellation_id, consent_id, order_id, payment_id, body_digest, effect,
                          reason_code, reason_text, is_open, reference, handled_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bytea[], $7::text[], $8::text[],
                     $9::text[], $10::boolean[], $11::text[], $12::timestamptz[])
ON CONFLICT (partner_id, cancellation_id) DO NOTHING
RETURNING partner_id, cancellation_id

-- name: answer
-- A place may be another record's by now (gateway/database/places.py).
WITH still AS (
    SELECT {place.since} AS since
)
INSERT INTO cancellation_answer (partner_id, reference)
SELECT u.partner_id, u.place || CASE WHEN earlier.records > 0 THEN '@' || earlier.records + 1 ELSE '' END
FROM unnest($1::text[], $2::text[]) AS u (partner_id, place),
     LATERAL (
         SELECT count(*) AS records FROM cancellation_answer a
         WHERE a.partner_id = u.partner_id AND a.answered_at <= (SELECT since FROM still)
           AND a.reference = ANY (place || {place.again})
     ) earlier
ON CONFLICT (partner_id, reference) DO NOTHING
RETURNING partner_id, split_part(reference, '@', 1) AS reference

-- name: not_sent
SELECT c.partner_id, c.payment_id, c.consent_id FROM cancellation c
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)
WHERE c.effect = 'not_sent'

-- name: lock_due
-- Only those whose payments are through: what is in flight is left alone, however often this is asked.
SELECT c.* FROM cancellation c
JOIN payment p USING (partner_id, payment_id)
WHERE c.is_open AND p.state NOT IN ('sent', 'unknown')
ORDER BY c.handled_at
LIMIT $1
FOR NO KEY UPDATE OF c SKIP LOCKED

-- name: update
UPDATE cancellation c
SET effect = u.effect, reason_code = u.reason_code, reason_text = u.reason_text, is_open = u.is_open
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
    AS u (partner_id, cancellation_id, effect, reason_code, reason_text, is_open)
WHERE (c.partner_id, c.cancellation_id) = (u.partner_id, u.cancellation_id)
