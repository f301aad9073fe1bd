-- name: reports
SELECT network_id, worker, is_open, reported_at FROM network_status ORDER BY network_id, reported_at DESC

-- name: pauses
SELECT network_id, paused_at, operator, why FROM network_pause ORDER BY network_id

-- name: open_payments
SELECT network_id, state, count(*) AS payments, min(decided_at) AS oldest
FROM payment WHERE state IN ('sent', 'unknown', 'reversing')
GROUP BY network_id, state ORDER BY network_id, state

-- name: follow_ups
SELECT network_id, 'inquiry' AS kind, count(*) AS open, min(queued_at) AS oldest, max(attempts) AS attempts
FROM inquiry WHERE closed_at IS NULL GROUP BY network_id
UNION ALL
SELECT network_id, 'reversal', count(*), min(queued_at), max(attempts)
FROM reversal WHERE closed_at IS NULL GROUP BY network_id
ORDER BY network_id, kind
