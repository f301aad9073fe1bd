-- name: shares
SELECT number, kind, rows, rule, before, digest, destroyed_at FROM destroy_old_shares($1, $2)

-- name: contributions
SELECT number, kind, rows, rule, before, digest, destroyed_at FROM destroy_old_contributions($1, $2)

-- name: operating
SELECT number, kind, rows, rule, before, digest, destroyed_at FROM destroy_old_operating($1, $2)
