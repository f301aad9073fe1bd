-- name: merchants
SELECT merchant_id, acceptor_id, name_location, mcc, networks, active, name
FROM merchant WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2
