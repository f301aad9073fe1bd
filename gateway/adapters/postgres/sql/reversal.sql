-- name: queue
INSERT INTO reversal (partner_id, payment_id, network_id, stan, transmitted_at, next_attempt_at, queued_at)
SELECT k.partner_id, k.payment_id, k.network_id, k.stan, k.transmitted_at, k.queued_at, k.queued_at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::integer[], $5::timestamptz[], $6::timestamptz[])
    AS k (partner_id, payment_id, network_id, stan, transmitted_at, queued_at)
ON CONFLICT (partner_id, payment_id) DO NOTHING

-- name: claim
WITH due AS MATERIALIZED (
    SELECT partner_id, payment_id FROM reversal
    WHERE network_id = $1 AND confirmed_at IS NULL AND next_attempt_at <= $3
      AND (leased_until IS NULL OR leased_until < $3)
    ORDER BY next_attempt_at
    LIMIT $5
    FOR UPDATE SKIP LOCKED
)
UPDATE reversal r
SET leased_by = $2, leased_until = $4, attempts = r.attempts + 1
FROM due WHERE (r.partner_id, r.payment_id) = (due.partner_id, due.payment_id)
RETURNING r.partner_id, r.payment_id, r.network_id, r.stan, r.transmitted_at, r.attempts - 1 AS attempts, r.queued_at

-- name: retry
UPDATE reversal SET leased_by = NULL, leased_until = NULL, next_attempt_at = $4, last_code = $5
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (reversal.partner_id, reversal.payment_id) = (k.partner_id, k.payment_id)
  AND leased_by = $3 AND confirmed_at IS NULL

-- name: confirm
UPDATE reversal SET confirmed_at = $4, leased_by = NULL, leased_until = NULL
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (reversal.partner_id, reversal.payment_id) = (k.partner_id, k.payment_id)
  AND leased_by = $3 AND confirmed_at IS NULL
RETURNING reversal.partner_id, reversal.payment_id

-- name: next_due
SELECT min(greatest(next_attempt_at, leased_until)) FROM reversal WHERE network_id = $1 AND confirmed_at IS NULL
