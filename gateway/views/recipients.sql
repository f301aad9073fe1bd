-- name: recipients
SELECT r.org_code, r.name, r.partner_id, r.certificate_sha256, r.active, r.created_at,
       array_agg(k.kid ORDER BY k.created_at DESC, k.kid DESC) FILTER (WHERE k.disabled_at IS NULL) AS kids
FROM recipient r LEFT JOIN recipient_key k USING (org_code)
GROUP BY r.org_code
ORDER BY r.org_code

-- name: exports
SELECT e.partner_id, e.request_id, e.number, e.consent_id, r.rcv_org_code, e.state, e.attempt, e.snapshot_at,
       e.reason_code, e.reason_text, e.created_at, e.changed_at
FROM portability_export e JOIN portability_request r USING (partner_id, request_id)
WHERE ($1::text IS NULL OR e.partner_id = $1) AND ($2::text IS NULL OR e.consent_id = $2)
ORDER BY e.created_at DESC, e.partner_id, e.request_id, e.number
LIMIT $3
