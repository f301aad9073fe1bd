-- name: recipients
SELECT r.org_code, r.active, k.kid, k.jwk::text AS jwk
FROM unnest($1::text[]) AS o (org_code)
JOIN recipient r USING (org_code)
LEFT JOIN LATERAL (
    SELECT kid, jwk FROM recipient_key
    WHERE org_code = r.org_code AND disabled_at IS NULL
    ORDER BY created_at DESC, kid DESC LIMIT 1
) AS k ON true

-- name: requests
SELECT r.partner_id, r.request_id, r.customer_id, r.body, r.digest, r.status, r.exports, r.next_due_at, r.accessed_at,
       r.reference, r.traceparent, r.created_at
FROM portability_request r
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, request_id) USING (partner_id, request_id)

-- name: gone
SELECT g.partner_id, g.request_id, g.digest, g.reference
FROM portability_request_gone g
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, request_id) USING (partner_id, request_id)

-- name: destroy_silent
SELECT number, kind, rows, rule, before, digest, destroyed_at FROM destroy_silent_portability($1, $2)

-- name: add
INSERT INTO portability_request (partner_id, request_id, consent_id, customer_id, rcv_org_code, body, digest, status,
                                 exports, next_due_at, accessed_at, reference, traceparent, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[],
                     $9::integer[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[],
                     $14::timestamptz[])
    AS n (partner_id, request_id)
ORDER BY n.partner_id, n.request_id
ON CONFLICT (partner_id, request_id) DO NOTHING
RETURNING partner_id, request_id

-- name: access
UPDATE portability_request r SET accessed_at = greatest(r.accessed_at, a.accessed_at)
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS a (partner_id, consent_id, rcv_org_code, accessed_at)
WHERE (r.partner_id, r.consent_id) = (a.partner_id, a.consent_id) AND r.rcv_org_code = a.rcv_org_code
  AND r.status = 'active'

-- name: add_exports
INSERT INTO portability_export (partner_id, request_id, number, consent_id, state, search_from, created_at, changed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[],
                     $7::timestamptz[], $8::timestamptz[])

-- name: claim
-- Of the next partner behind one: a look into the index, whatever waits of the others.
WITH next AS MATERIALIZED (
    SELECT partner_id, request_id, number FROM portability_export
    WHERE state IN ('waiting', 'sending') AND (leased_until IS NULL OR leased_until <= $2) AND partner_id > $4
    ORDER BY partner_id, created_at
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE portability_export e
SET state = 'sending', attempt = e.attempt + 1, leased_by = $1, leased_until = $3, changed_at = $2
FROM next
WHERE (e.partner_id, e.request_id, e.number) = (next.partner_id, next.request_id, next.number)
RETURNING e.*

-- name: hold
UPDATE portability_export SET leased_until = $5, sent_chunks = $6, sent_version = $7
WHERE (partner_id, request_id, number) = ($1, $2, $3) AND attempt = $4 AND state = 'sending'
RETURNING attempt

-- name: lock_export
SELECT * FROM portability_export WHERE (partner_id, request_id, number) = ($1, $2, $3) FOR NO KEY UPDATE

-- name: update_export
UPDATE portability_export
SET state = $4, snapshot_at = $5, receipt = $6, reason_code = $7, reason_text = $8, leased_by = $9, leased_until = $10,
    changed_at = $11, sent_chunks = $12, sent_version = $13, attempt = $14
WHERE (partner_id, request_id, number) = ($1, $2, $3)

-- name: claim_due
SELECT partner_id, request_id, customer_id, body, digest, status, exports, next_due_at, accessed_at, reference,
       traceparent, created_at
FROM portability_request
WHERE next_due_at <= $1
ORDER BY next_due_at
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: last_snapshots
SELECT e.partner_id, e.request_id, max(e.snapshot_at) AS snapshot_at
FROM portability_export e
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, request_id) USING (partner_id, request_id)
WHERE e.state = 'complete'
GROUP BY e.partner_id, e.request_id

-- name: update_requests
UPDATE portability_request r
SET status = u.status, exports = u.exports, next_due_at = u.next_due_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::timestamptz[])
    AS u (partner_id, request_id, status, exports, next_due_at)
WHERE (r.partner_id, r.request_id) = (u.partner_id, u.request_id)

-- name: finish_request
UPDATE portability_request SET status = 'done'
WHERE (partner_id, request_id) = ($1, $2) AND status = 'active' AND next_due_at IS NULL

-- name: payments
-- In no order: what is read is handed on as it comes, and a sort of a million rows would wait for the last of them.
SELECT p.payment_id::text AS payment_id, p.operation, p.state, p.amount_minor, p.currency, p.approval_code,
       p.decided_at, p.changed_at, p.funding_token, m.name AS merchant_name, m.mcc,
       CASE WHEN p.operation = 'purchase' THEN coalesce((
           SELECT sum(r.amount_minor) FROM payment r
           WHERE r.partner_id = p.partner_id AND r.original_payment_id = p.payment_id
             AND r.state IN ('approved', 'settled')), 0) ELSE 0 END::bigint AS refunded_minor
FROM consent c
JOIN payment p USING (partner_id, consent_id)
LEFT JOIN merchant m USING (merchant_id)
WHERE c.partner_id = $1 AND c.customer_id = $2 
  AND ($3::timestamptz IS NULL OR p.changed_at > $3 OR EXISTS (
      -- What was given back of a purchase corrects it, and leaves its own row as it was.
      SELECT FROM payment r
      WHERE r.partner_id = p.partner_id AND r.original_payment_id = p.payment_id AND r.changed_at > $3))
