-- name: commands
SELECT command_id, command, outcome, change, status, version, reason_code, reason_text, actor, reference, handled_at
FROM consent_command
WHERE partner_id = $1 AND consent_id = $2
ORDER BY handled_at, change NULLS LAST, command_id
LIMIT $3
