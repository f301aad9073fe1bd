-- name: queue
INSERT INTO {queue} (
    partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, next_attempt_at, queued_at)
SELECT k.partner_id, k.payment_id, k.network_id, k.terminal_id, k.stan, k.transmitted_at, k.queued_at, k.queued_at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::timestamptz[], $7::timestamptz[])
    AS k (partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, queued_at)
ON CONFLICT (partner_id, payment_id) DO UPDATE
SET stan = excluded.stan, transmitted_at = excluded.transmitted_at, attempts = 0, last_code = NULL,
    next_attempt_at = excluded.next_attempt_at, leased_by = NULL, leased_until = NULL, queued_at = excluded.queued_at,
    closed_at = NULL
WHERE {queue}.closed_at IS NOT NULL

-- name: begin_anew
UPDATE {queue} q
SET stan = k.stan, transmitted_at = k.transmitted_at, attempts = 0, next_attempt_at = k.transmitted_at,
    leased_by = NULL, leased_until = NULL
FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::timestamptz[])
    AS k (partner_id, payment_id, stan, transmitted_at)
WHERE (q.partner_id, q.payment_id) = (k.partner_id, k.payment_id)
  AND q.closed_at IS NULL AND q.attempts > 0

-- name: claim
WITH due AS MATERIALIZED (
    SELECT partner_id, payment_id FROM {queue} q
    WHERE network_id = $1 AND closed_at IS NULL AND next_attempt_at <= $3
      AND (leased_until IS NULL OR leased_until < $3)
      AND (NOT $6 OR NOT EXISTS (
          SELECT FROM {queue} older
          WHERE older.network_id = q.network_id AND older.terminal_id = q.terminal_id AND older.closed_at IS NULL
            AND older.last_code IS DISTINCT FROM $7
            AND (older.queued_at, older.payment_id) < (q.queued_at, q.payment_id)))
    ORDER BY next_attempt_at
    LIMIT $5
    FOR UPDATE SKIP LOCKED
)
UPDATE {queue} r
SET leased_by = $2, leased_until = $4, attempts = r.attempts + 1
FROM due WHERE (r.partner_id, r.payment_id) = (due.partner_id, due.payment_id)
RETURNING r.partner_id, r.payment_id, r.network_id, r.terminal_id, r.stan, r.transmitted_at,
          r.attempts - 1 AS attempts, r.queued_at

-- name: retry
UPDATE {queue} q SET leased_by = NULL, leased_until = NULL, next_attempt_at = $4, last_code = $5
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (q.partner_id, q.payment_id) = (k.partner_id, k.payment_id)
  AND q.leased_by = $3 AND q.closed_at IS NULL

-- name: hurry
-- What is due already keeps its place; so does what somebody holds, for it was due when it was claimed.
UPDATE {queue} q SET next_attempt_at = $3
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (q.partner_id, q.payment_id) = (k.partner_id, k.payment_id)
  AND q.closed_at IS NULL AND q.next_attempt_at > $3
RETURNING q.partner_id, q.payment_id

-- name: close
UPDATE {queue} q SET closed_at = $4, leased_by = NULL, leased_until = NULL, last_code = k.code
FROM unnest($1::text[], $2::uuid[], $5::text[]) AS k (partner_id, payment_id, code)
WHERE (q.partner_id, q.payment_id) = (k.partner_id, k.payment_id)
  AND q.leased_by = $3 AND q.closed_at IS NULL
RETURNING q.partner_id, q.payment_id

-- name: take_away
UPDATE {queue} q SET closed_at = $3, leased_by = NULL, leased_until = NULL
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
WHERE (q.partner_id, q.payment_id) = (k.partner_id, k.payment_id) AND q.closed_at IS NULL
RETURNING q.partner_id, q.payment_id

-- name: next_due
SELECT min(greatest(next_attempt_at, leased_until)) FROM {queue} WHERE network_id = $1 AND closed_at IS NULL
