-- name: place
SELECT tx::text AS tx, id FROM sharing_place

-- name: follow
UPDATE sharing_place SET followed = true WHERE NOT followed

-- name: look
-- Where nobody may be given anything and nobody holds anything, all that was told until now is passed over. In one
-- statement, and so one moment. Where a full page ends, where there is one, is told by the index alone.
SELECT EXISTS (SELECT FROM consent WHERE terms ? 'sharing')
       OR EXISTS (SELECT FROM share_holder WHERE notice_id IS NULL) AS has_work,
       o.tx::text AS last_tx, o.id AS last_id, page.tx::text AS page_tx, page.id AS page_id
FROM (
    SELECT tx, id FROM outbox
    WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
      AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx DESC, id DESC LIMIT 1
) o
LEFT JOIN (
    SELECT tx, id FROM outbox
    WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
      AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx, id OFFSET (SELECT $3::bigint) - 1 LIMIT 1
) page ON true

-- name: read
-- As the relay reads: partitions are passed over by tx alone. Nothing can come to stand before the page's end any more.
-- A planner that knew places and limit would take all that is younger than its statistics for a few rows, and sort it
-- for each page.
SELECT topic, key, event_type, body FROM outbox
WHERE (tx, id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND tx >= (SELECT $1::text::xid8)
  AND (tx, id) <= ((SELECT $3::text::xid8), (SELECT $4::bigint)) AND tx <= (SELECT $3::text::xid8)
  AND event_type = ANY ($6::text[])
ORDER BY tx, id LIMIT (SELECT $5::bigint)

-- name: sharing
-- Which of these consents share anything now: so that others are not held.
SELECT k.partner_id, k.consent_id
FROM unnest($1::text[], $2::text[]) AS k (partner_id, consent_id)
CROSS JOIN LATERAL (
    SELECT FROM consent WHERE partner_id = k.partner_id AND consent_id = k.consent_id
      AND terms ? 'sharing' AND NOT 'sharing' = ANY (ended_purposes)
    OFFSET 0
) c

-- name: merchants
SELECT merchant_id, mcc, name_location FROM merchant WHERE merchant_id = ANY ($1::text[])

-- name: tokens
-- No event tells a token, and few may have a name of one.
SELECT p.partner_id, p.payment_id, p.funding_token
FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
CROSS JOIN LATERAL (
    SELECT partner_id, payment_id, funding_token FROM payment
    WHERE partner_id = k.partner_id AND payment_id = k.payment_id AND funding_token IS NOT NULL
    OFFSET 0
) p

-- name: settled
-- Of events that do not say it themselves. Look-ups are by key, one row each: a plan that begins with all consents that
-- share reads all of their payments.
-- Keys come as two texts: to make an array, the driver takes half a microsecond for each member.
SELECT p.partner_id, p.payment_id, p.consent_id, p.merchant_id, p.amount_minor, p.currency, p.decided_at, m.mcc,
       m.name_location
FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) AS k (partner_id, payment_id)
CROSS JOIN LATERAL (
    SELECT partner_id, payment_id, consent_id, merchant_id, amount_minor, currency, decided_at, operation, state
    FROM payment WHERE partner_id = k.partner_id AND payment_id = k.payment_id::uuid
    OFFSET 0
) p
CROSS JOIN LATERAL (
    SELECT terms, ended_purposes FROM consent WHERE partner_id = p.partner_id AND consent_id = p.consent_id
    OFFSET 0
) c
LEFT JOIN merchant m USING (merchant_id)
WHERE p.operation = 'purchase' AND p.state = 'settled' AND c.terms ? 'sharing' AND NOT 'sharing' = ANY (c.ended_purposes)
ORDER BY p.partner_id, p.payment_id

-- name: held
SELECT DISTINCT partner_id, consent_id FROM share_holder r
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
WHERE r.notice_id IS NULL
ORDER BY partner_id, consent_id

-- name: advance
-- Who moves on reads, whatever operators said of it meanwhile: events are kept for it again.
UPDATE sharing_place SET tx = $3::text::xid8, id = $4, followed = true
WHERE (tx, id) = ($1::text::xid8, $2::bigint)
RETURNING id

-- name: take_turn
SELECT id FROM sharing_place FOR NO KEY UPDATE

-- name: bundles_are_read
SELECT by_all FROM bundles_read

-- name: approvals
SELECT a.affiliate_id, a.purpose, a.legal_basis, a.approved_by
FROM affiliate_approval a JOIN affiliate f USING (affiliate_id)
WHERE f.active AND a.withdrawn_at IS NULL
ORDER BY a.affiliate_id, a.purpose

-- name: approved
SELECT affiliate_id, purpose FROM affiliate_approval WHERE withdrawn_at IS NULL

-- name: known_affiliates
SELECT affiliate_id FROM affiliate

-- name: affiliates
SELECT affiliate_id FROM affiliate WHERE active

-- name: affiliate_keys
SELECT kid, affiliate_id, algorithm, jwk::text AS jwk, valid_from, valid_until, disabled_at FROM affiliate_key

-- name: holders
SELECT DISTINCT ON (r.partner_id, r.consent_id, r.affiliate_id)
       r.partner_id, r.consent_id, r.customer_id, r.affiliate_id, r.round, r.reference, r.key_ids, r.since, r.uses,
       r.fields, r.notice_id, r.cause, r.noticed_at, r.erase_by, r.confirmed_at
FROM share_holder r
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
ORDER BY r.partner_id, r.consent_id, r.affiliate_id, r.round DESC

-- name: ended
SELECT partner_id, consent_id, max(ended_at) AS ended_at
FROM consent_purpose_end
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
WHERE purpose = 'sharing'
GROUP BY partner_id, consent_id

-- name: add_shares
-- Where some are there: others are written by COPY.
INSERT INTO share (partner_id, payment_id, affiliate_id, consent_id, consent_version, round, share_id, key_id, uses, fields,
                   use_until, shared_at)
SELECT partner_id, payment_id, affiliate_id, consent_id, version, round, share_id, key_id, string_to_array(uses, ' '),
       string_to_array(fields, ' '), use_until, shared_at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[])
    AS s (partner_id, payment_id, affiliate_id, consent_id, version, round, share_id, key_id, uses, fields, use_until,
          shared_at)
ORDER BY partner_id, payment_id, affiliate_id
ON CONFLICT (partner_id, payment_id, affiliate_id) DO NOTHING
RETURNING partner_id, payment_id, affiliate_id

-- name: write_holders
INSERT INTO share_holder AS r (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, since,
                               notice_id, cause, noticed_at, erase_by, uses, fields)
SELECT partner_id, consent_id, customer_id, affiliate_id, round, reference, string_to_array(key_ids, ' '), since,
       notice_id, cause, noticed_at, erase_by, string_to_array(uses, ' '), string_to_array(fields, ' ')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::timestamptz[],
            $9::uuid[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[])
    AS n (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, since, notice_id, cause,
          noticed_at, erase_by, uses, fields)
ORDER BY partner_id, consent_id, affiliate_id, round
ON CONFLICT (partner_id, consent_id, affiliate_id, round) DO UPDATE
SET key_ids = excluded.key_ids, uses = excluded.uses, fields = excluded.fields, notice_id = excluded.notice_id,
    cause = excluded.cause, noticed_at = excluded.noticed_at, erase_by = excluded.erase_by

-- name: must_erase
SELECT DISTINCT r.partner_id, r.consent_id
FROM share_holder r JOIN consent c USING (partner_id, consent_id)
WHERE r.notice_id IS NULL
  AND (c.status NOT IN ('AUTH', 'SUSP') OR 'sharing' = ANY (c.ended_purposes) OR NOT c.terms ? 'sharing'
       OR (c.terms -> 'sharing' ->> 'use_until')::timestamptz <= $1 OR (c.terms ->> 'valid_until')::timestamptz <= $1
       OR NOT c.terms -> 'sharing' -> 'affiliates' ? r.affiliate_id
       OR NOT c.terms -> 'sharing' -> 'fields' ?& r.fields
       OR EXISTS (
           SELECT FROM unnest(r.uses) AS u (use)
           WHERE NOT c.terms -> 'sharing' -> 'purposes' ? u.use
              OR NOT EXISTS (
                  SELECT FROM affiliate_approval a
                  WHERE a.affiliate_id = r.affiliate_id AND a.purpose = u.use AND a.withdrawn_at IS NULL)))
ORDER BY r.partner_id, r.consent_id
LIMIT $2

-- name: lock_notices
SELECT r.* FROM share_holder r WHERE r.notice_id = ANY ($1::uuid[])
ORDER BY r.notice_id
FOR NO KEY UPDATE OF r

-- name: confirm
UPDATE share_holder r
SET confirmed_at = $4, confirmation = u.reference, erased = u.erased
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS u (notice_id, reference, erased)
WHERE r.notice_id = u.notice_id AND r.confirmed_at IS NULL

-- name: ask_reminder
-- Whoever asked first is the one that it waits for.
UPDATE share_holder SET remind_at = coalesce(remind_at, $2) WHERE notice_id = $1 AND confirmed_at IS NULL RETURNING notice_id

-- name: take_reminders
WITH due AS MATERIALIZED (
    SELECT notice_id FROM share_holder WHERE remind_at IS NOT NULL ORDER BY remind_at, notice_id LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE share_holder r SET remind_at = NULL, reminders = r.reminders + (r.confirmed_at IS NULL)::integer
FROM due WHERE r.notice_id = due.notice_id
RETURNING r.*

-- name: overdue
SELECT count(*) AS notices, min(erase_by) AS since FROM share_holder
WHERE notice_id IS NOT NULL AND confirmed_at IS NULL AND erase_by <= $1
