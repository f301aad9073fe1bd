-- name: note_action
INSERT INTO operator_action (action_id, phase, operator, command, subject, why) VALUES ($1, $2, $3, $4, $5, $6)

-- name: latest_action
SELECT action_id FROM operator_action WHERE phase = $3 AND command = $1 AND subject = $2 ORDER BY at DESC LIMIT 1

-- name: propose
INSERT INTO operator_proposal (proposal_id, kind, subject, payload, operator, why, expires_at, identity)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8)

-- name: try_deciding
SELECT pg_try_advisory_xact_lock(hashtextextended('operator_proposal ' || $1::text, 0)) AS ours

-- name: decide
INSERT INTO operator_decision (proposal_id, decision, operator, why, identity) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (proposal_id) DO NOTHING
RETURNING proposal_id

-- name: proposal
SELECT p.proposal_id, p.kind, p.subject, p.payload::text AS payload, p.operator, p.login, p.why, p.proposed_at, p.expires_at,
       p.identity, d.decision, d.operator AS decided_by
FROM operator_proposal p LEFT JOIN operator_decision d USING (proposal_id)
WHERE p.proposal_id = $1
