-- name: files
-- Also how many payments the database knows in each.
SELECT f.file_id, f.status, f.payments, f.sha256, f.begun_at, f.written_at, f.moved_at
FROM archive_file f ORDER BY f.file_id DESC LIMIT $1

-- name: total
SELECT count(*) AS files, coalesce(sum(payments), 0)::bigint AS payments, min(begun_at) AS since
FROM archive_file WHERE status IN ('written', 'moved')

-- name: payment
SELECT a.*, '' AS limit_windows, true AS is_archived, f.status AS file_status, f.payments AS file_payments,
    f.sha256 AS file_sha256
FROM archived_payment a JOIN archive_file f USING (file_id)
WHERE a.partner_id = $1 AND a.payment_id = $2

-- name: payment_of_any_partner
SELECT a.*, '' AS limit_windows, true AS is_archived, f.status AS file_status, f.payments AS file_payments,
    f.sha256 AS file_sha256
FROM partner r JOIN archived_payment a ON a.partner_id = r.partner_id AND a.payment_id = $1
JOIN archive_file f USING (file_id)
