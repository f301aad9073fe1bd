-- name: user
SELECT name, role, password_hash FROM console_user WHERE lower(name) = lower($1) AND disabled_at IS NULL

-- name: spelling
SELECT name FROM console_user WHERE lower(name) = lower($1)

-- name: lock_name
-- Whoever tries the same name waits for the end of this transaction, in whichever process.
SELECT pg_advisory_xact_lock(hashtext('console_sign_in'), hashtext(lower($1)))

-- name: failures
-- Of the name, and of the place, since then.
SELECT count(*) FILTER (WHERE is_name AND outcome = 'refused') AS of_name,
       count(*) FILTER (WHERE peer = $2 AND outcome = 'refused') AS of_peer,
       coalesce(bool_or(is_name AND outcome = 'too_many'), false) AS told_name,
       coalesce(bool_or(peer = $2 AND outcome = 'too_many'), false) AS told_peer
FROM (
    SELECT true AS is_name, peer, outcome FROM console_sign_in
    WHERE lower(name) = lower($1) AND at >= $3 AND outcome IN ('refused', 'too_many')
    UNION ALL
    SELECT false, peer, outcome FROM console_sign_in
    WHERE peer = $2 AND lower(name) <> lower($1) AND at >= $3 AND outcome IN ('refused', 'too_many')
) AS f

-- name: note
INSERT INTO console_sign_in (name, peer, outcome) VALUES ($1, $2, $3)

-- name: begin
WITH gone AS (DELETE FROM console_session WHERE seen_at < $6 OR began_at < $7)
INSERT INTO console_session (token_hash, name, role, is_local, began_at, seen_at, identity)
VALUES ($1, $2, $3, $4, $5, $5, $8)

-- name: session
-- A user's role is the one that they have now; who was disabled is signed in no more. Nor is whoever is not local and
-- has no identity: a console of before let them in.
SELECT s.name, coalesce(u.role, s.role) AS role, s.is_local, s.began_at, s.seen_at, s.identity
FROM console_session s LEFT JOIN console_user u ON s.is_local AND u.name = s.name AND u.disabled_at IS NULL
WHERE s.token_hash = $1 AND s.seen_at >= $2 AND s.began_at >= $3 AND (u.name IS NOT NULL OR NOT s.is_local AND s.identity IS NOT NULL)

-- name: seen
UPDATE console_session SET seen_at = $2 WHERE token_hash = $1

-- name: end
DELETE FROM console_session WHERE token_hash = $1
