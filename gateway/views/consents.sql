-- name: consents
SELECT c.partner_id, c.consent_id, c.customer_id, c.version, c.status, c.ended_purposes, c.terms::text AS terms, c.created_at,
       c.status_changed_at, v.terms AS sent, v.digest AS terms_digest
FROM consent c JOIN consent_version v USING (partner_id, consent_id, version)
WHERE ($1::text IS NULL OR c.partner_id = $1) AND ($2::text IS NULL OR c.status = $2)
ORDER BY c.partner_id, c.consent_id LIMIT $3

-- name: consent
-- One index probe for each partner.
SELECT c.partner_id, c.consent_id, c.customer_id, c.version, c.status, c.ended_purposes, c.terms::text AS terms, c.created_at,
       c.status_changed_at, v.terms AS sent, v.digest AS terms_digest
FROM unnest(coalesce($1::text[], ARRAY(SELECT partner_id FROM partner))) AS r (partner_id)
JOIN consent c ON c.partner_id = r.partner_id AND c.consent_id = $2
JOIN consent_version v ON (v.partner_id, v.consent_id, v.version) = (c.partner_id, c.consent_id, c.version)
ORDER BY c.partner_id

-- name: usage
-- What payments have taken of its windows, and which payments are in flight: of one moment, in one statement.
SELECT limit_key, starts_at, reserved_minor + consumed_minor AS minor, reserved_count + consumed_count AS count,
       NULL AS in_flight
FROM consent_usage WHERE partner_id = $1 AND consent_id = $2
UNION ALL
SELECT NULL, NULL, amount_minor, 1, limit_windows
FROM payment WHERE partner_id = $1 AND consent_id = $2 AND state IN ('sent', 'unknown')

-- name: commands
SELECT command_id, command, outcome, change, status, version, reason_code, reason_text, actor, reference, handled_at
FROM consent_command
WHERE partner_id = $1 AND consent_id = $2
ORDER BY handled_at, change NULLS LAST, command_id
LIMIT $3
