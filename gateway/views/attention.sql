-- name: open_payments
SELECT * FROM payment WHERE state IN ('sent', 'unknown', 'reversing') AND decided_at < $1 ORDER BY decided_at LIMIT $2

-- name: breaks
SELECT network_id, cycle_id, record_no, kind, rrn, amount_minor, currency, partner_id, payment_id, break_kind,
       break_detail, imported_at
FROM clearing_record c WHERE break_kind IS NOT NULL AND NOT EXISTS (
    SELECT FROM break_resolution r
    WHERE (r.network_id, r.cycle_id, r.record_no, r.version, r.break_kind)
        = (c.network_id, c.cycle_id, c.record_no, c.version, c.break_kind))
ORDER BY imported_at DESC, network_id, cycle_id, record_no LIMIT $1

-- name: breaks_by_kind
SELECT network_id, break_kind, count(*) AS breaks, min(imported_at) AS oldest
FROM clearing_record c WHERE break_kind IS NOT NULL AND NOT EXISTS (
    SELECT FROM break_resolution r
    WHERE (r.network_id, r.cycle_id, r.record_no, r.version, r.break_kind)
        = (c.network_id, c.cycle_id, c.record_no, c.version, c.break_kind))
GROUP BY network_id, break_kind ORDER BY network_id, break_kind

-- name: resolved
SELECT r.network_id, r.cycle_id, r.record_no, r.break_kind, r.resolution, r.why, r.resolved_by, r.resolved_at
FROM break_resolution r ORDER BY r.resolved_at DESC, r.network_id, r.cycle_id, r.record_no LIMIT $1

-- name: overdue_erasures
SELECT affiliate_id, partner_id, consent_id, cause, noticed_at, erase_by, notice_id, remind_at, reminders
FROM share_holder WHERE notice_id IS NOT NULL AND confirmed_at IS NULL AND erase_by < $1 ORDER BY erase_by LIMIT $2

-- name: waiting
-- The cursor is read first, once: rows are compared by the index.
SELECT (SELECT count(*) FROM (SELECT FROM outbox o WHERE (o.tx, o.id) > (c.tx, c.id) AND o.tx >= c.tx
                              ORDER BY o.tx, o.id LIMIT $1) AS w) AS rows,
       (SELECT o.occurred_at FROM outbox o WHERE (o.tx, o.id) > (c.tx, c.id) AND o.tx >= c.tx
        ORDER BY o.tx, o.id LIMIT 1) AS oldest,
       (SELECT count(*) FROM (SELECT FROM outbox_parked LIMIT $1) AS p) AS parked
FROM outbox_cursor c

-- name: recent_events
SELECT event_type, count(*) AS events
FROM (SELECT event_type FROM outbox ORDER BY tx DESC, id DESC LIMIT $1) AS latest
GROUP BY event_type

-- name: recent_outcomes
-- Each payment once, as the latest of its events has it.
SELECT event_type, count(*) AS payments
FROM (SELECT DISTINCT ON (topic, key) event_type
      FROM (SELECT tx, id, topic, key, event_type FROM outbox ORDER BY tx DESC, id DESC LIMIT $1) AS latest
      WHERE event_type = ANY ($2::text[])
      ORDER BY topic, key, tx DESC, id DESC) AS of_each
GROUP BY event_type

-- name: rows_written
SELECT n_tup_ins AS written FROM pg_stat_user_tables WHERE relid = 'payment'::regclass

-- name: expiries
SELECT 'partner key' AS kind, partner_id AS whose, kid, valid_until FROM partner_key
WHERE disabled_at IS NULL AND valid_until > now() AND valid_until < $1
UNION ALL
SELECT 'affiliate key', affiliate_id, kid, valid_until FROM affiliate_key
WHERE disabled_at IS NULL AND valid_until > now() AND valid_until < $1
ORDER BY valid_until
