-- name: open_exports
SELECT partner_id, request_id, number, consent_id, created_at, changed_at FROM portability_export
WHERE state IN ('waiting', 'sending')
ORDER BY partner_id, request_id, number
