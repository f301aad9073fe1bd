-- name: add_user
INSERT INTO console_user (name, role, password_hash) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING name

-- name: change_user
-- What is not given stays.
UPDATE console_user
SET role = coalesce($2, role), password_hash = coalesce($3, password_hash),
    disabled_at = CASE WHEN $4::boolean IS NULL THEN disabled_at WHEN $4 THEN NULL ELSE clock_timestamp() END
WHERE name = $1
RETURNING name

-- name: end_sessions_of
DELETE FROM console_session WHERE name = $1 AND is_local

-- name: users
SELECT name, role, created_at, disabled_at FROM console_user ORDER BY name
