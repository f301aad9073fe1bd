-- name: find
-- In one place or the other, never in neither: one statement sees one moment.
SELECT p.partner_id, p.payment_id, p.order_id, p.consent_id, p.consent_version, p.merchant_id, p.operation,
    p.amount_minor, p.currency, p.funding_token, p.order_digest, p.state, p.version, p.reason_code, p.reason_text,
    p.network_code, p.network_id, p.terminal_id, p.stan, p.rrn, p.transmitted_at, p.approval_code, p.limit_windows,
    p.ordered_at, p.decided_at, p.changed_at, p.traceparent, p.original_payment_id, p.sent_by, false AS is_archived
FROM payment p
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)
UNION ALL
SELECT a.partner_id, a.payment_id, a.order_id, a.consent_id, a.consent_version, a.merchant_id, a.operation,
    a.amount_minor, a.currency, NULL, a.order_digest, a.state, a.version, a.reason_code, a.reason_text,
    a.network_code, a.network_id, a.terminal_id, a.stan, a.rrn, a.transmitted_at, a.approval_code, '',
    a.ordered_at, a.decided_at, a.changed_at, NULL, a.original_payment_id, NULL, true
FROM archived_payment a
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)

-- name: lock
SELECT p.* FROM payment p
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)
ORDER BY p.partner_id, p.payment_id
FOR NO KEY UPDATE OF p

-- name: lock_versions
SELECT p.partner_id, p.payment_id, p.version FROM payment p
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)
ORDER BY p.partner_id, p.payment_id
FOR NO KEY UPDATE OF p

-- name: insert
INSERT INTO payment (
    partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation, amount_minor, currency,
    funding_token, order_digest, state, version, reason_code, reason_text, network_code, network_id, terminal_id, stan,
    rrn, transmitted_at, approval_code, limit_windows, ordered_at, decided_at, changed_at, traceparent,
    sent_by, original_payment_id)
SELECT * FROM unnest(
    $1::text[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::bigint[], $9::text[],
    $10::text[], $11::bytea[], $12::text[], $13::integer[], $14::text[], $15::text[], $16::text[], $17::text[],
    $18::text[], $19::integer[], $20::text[], $21::timestamptz[], $22::text[], $23::text[], $24::timestamptz[],
    $25::timestamptz[], $26::timestamptz[], $27::text[], $28::text[], $29::uuid[]) AS n (partner_id, payment_id)
-- Looked at row by row, in their order: of two with one key the first goes in.
WHERE (SELECT a.payment_id FROM archived_payment a
       WHERE (a.partner_id, a.payment_id) = (n.partner_id, n.payment_id)) IS NULL
ON CONFLICT (partner_id, payment_id) DO NOTHING
RETURNING partner_id, payment_id

-- name: update
UPDATE payment p
SET state = u.state, version = u.version, reason_code = u.reason_code, reason_text = u.reason_text,
    network_code = u.network_code, approval_code = u.approval_code, changed_at = u.changed_at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::timestamptz[])
    AS u (partner_id, payment_id, state, version, reason_code, reason_text, network_code, approval_code, changed_at)
WHERE (p.partner_id, p.payment_id) = (u.partner_id, u.payment_id)

-- name: begin_scheduled
UPDATE payment p
SET consent_version = u.consent_version, funding_token = u.funding_token, state = u.state, version = u.version,
    reason_code = u.reason_code, reason_text = u.reason_text, network_code = u.network_code, network_id = u.network_id,
    terminal_id = u.terminal_id, stan = u.stan, rrn = u.rrn, transmitted_at = u.transmitted_at,
    limit_windows = u.limit_windows, decided_at = u.decided_at, changed_at = u.changed_at, sent_by = u.sent_by
FROM unnest(
    $1::text[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::integer[], $13::text[], $14::timestamptz[], $15::text[], $16::timestamptz[],
    $17::timestamptz[], $18::text[])
    AS u (partner_id, payment_id, consent_version, funding_token, state, version, reason_code, reason_text,
          network_code, network_id, terminal_id, stan, rrn, transmitted_at, limit_windows, decided_at, changed_at,
          sent_by)
WHERE (p.partner_id, p.payment_id) = (u.partner_id, u.payment_id) AND p.state = 'scheduled'
RETURNING p.payment_id

-- name: in_flight
-- Through the index of open payments, of which there are few at all times: a consent may have had any number.
SELECT p.partner_id, p.consent_id, p.payment_id FROM payment p
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
WHERE p.state IN ('sent', 'unknown', 'reversing')
ORDER BY p.payment_id

-- name: refunded
-- Through the index of refunds. The caller holds the originals' locks: no refund of them can be added meanwhile.
SELECT p.partner_id, p.original_payment_id, sum(p.amount_minor)::bigint AS minor FROM payment p
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, original_payment_id) USING (partner_id, original_payment_id)
WHERE p.original_payment_id IS NOT NULL AND p.state NOT IN ('rejected', 'declined', 'reversed')
GROUP BY p.partner_id, p.original_payment_id

-- name: next_payment_numbers
SELECT nextval('payment_number') FROM generate_series(1, $1)

-- name: next_follow_up_numbers
SELECT nextval('follow_up_number') FROM generate_series(1, $1)

-- name: abandoned
SELECT partner_id, payment_id FROM payment p
WHERE p.network_id = $1 AND p.state = 'sent'
  AND (p.decided_at < $3 OR NOT EXISTS (
      SELECT FROM network_status s
      WHERE s.network_id = $1 AND s.worker = p.sent_by AND s.reported_at >= $2))
ORDER BY p.decided_at LIMIT $4

-- name: open_since
SELECT state, network_id, count(*), min(changed_at) AS since FROM payment
WHERE state IN ('sent', 'unknown', 'reversing') GROUP BY state, network_id

-- name: keys_by_rrn
SELECT rrn, partner_id, payment_id FROM payment WHERE network_id = $1 AND rrn = ANY ($2::text[])
