-- name: add_user
INSERT INTO console_user (name, role, password_hash, disabled_at)
VALUES ($1, $2, $3, CASE WHEN $4::boolean THEN NULL ELSE clock_timestamp() END)
ON CONFLICT DO NOTHING
RETURNING name

-- name: set_role
UPDATE console_user SET role = $2 WHERE lower(name) = lower($1) RETURNING name

-- name: set_password
-- Written, never read: nobody who may write it may read it.
UPDATE console_user
SET password_hash = $2, disabled_at = CASE WHEN $3::boolean THEN disabled_at ELSE clock_timestamp() END
WHERE lower(name) = lower($1) RETURNING name

-- name: set_enabled
UPDATE console_user SET disabled_at = CASE WHEN $2::boolean THEN NULL ELSE clock_timestamp() END
WHERE lower(name) = lower($1) RETURNING name

-- name: end_sessions_of
-- In whatever spelling, and also of whoever was sent by an identity provider: to the eye they are one person.
DELETE FROM console_session WHERE lower(name) = lower($1) RETURNING name

-- name: lock_user
SELECT name, role, created_at, disabled_at FROM console_user WHERE lower(name) = lower($1) FOR NO KEY UPDATE

-- name: users
SELECT name, role, created_at, disabled_at FROM console_user ORDER BY name
