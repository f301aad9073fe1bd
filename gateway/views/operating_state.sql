-- name: rows
SELECT gauge, label, other, value FROM operating_state
