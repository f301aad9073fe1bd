-- name: actions
SELECT b.action_id, b.at, b.operator, b.login, b.command, b.subject, b.why, e.phase AS outcome
FROM operator_action b
LEFT JOIN operator_action e ON e.action_id = b.action_id AND e.phase <> 'begun'
WHERE b.phase = 'begun' AND ($1::text IS NULL OR b.operator = $1)
ORDER BY b.at DESC LIMIT $2

-- name: proposal
SELECT p.proposal_id, p.kind, p.subject, p.payload::text AS payload, p.operator, p.login, p.why, p.proposed_at, p.expires_at,
       p.identity, d.decision, d.operator AS decided_by
FROM operator_proposal p LEFT JOIN operator_decision d USING (proposal_id)
WHERE p.proposal_id = $1

-- name: proposals
SELECT p.proposal_id, p.kind, p.subject, p.payload::text AS payload, p.operator, p.login, p.why, p.proposed_at, p.expires_at,
       p.identity, d.decision, d.operator AS decided_by
FROM operator_proposal p LEFT JOIN operator_decision d USING (proposal_id)
WHERE $1::boolean OR (d.decision IS NULL AND p.expires_at > clock_timestamp())
ORDER BY p.proposed_at DESC LIMIT $2

-- name: waiting
SELECT count(*) FROM (
    SELECT FROM operator_proposal p
    WHERE p.expires_at > clock_timestamp()
      AND NOT EXISTS (SELECT FROM operator_decision d WHERE d.proposal_id = p.proposal_id)
    LIMIT $1
) AS open
