-- name: place
SELECT tx::text AS tx, id FROM sharing_place

-- name: follow
UPDATE sharing_place SET followed = true WHERE NOT followed

-- name: look
-- Where nobody may be given anything and nobody holds anything, all that was told until now is passed over. In one
-- statement, and so one moment.
SELECT EXISTS (SELECT FROM consent WHERE terms ? 'sharing')
       OR EXISTS (SELECT FROM share_holder WHERE notice_id IS NULL) AS has_work,
       o.tx::text AS place_tx, o.id
FROM outbox o
WHERE (o.tx, o.id) > ($1::text::xid8, $2::bigint) AND o.tx >= $1::text::xid8
  AND o.tx < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY o.tx DESC, o.id DESC LIMIT 1

-- name: read
-- As the relay reads: nothing can come to stand before these rows, and partitions are passed over by tx alone.
WITH page AS MATERIALIZED (
    SELECT o.tx, o.id, o.topic, o.key, o.event_type, row_number() OVER (ORDER BY o.tx, o.id) AS n
    FROM (
        SELECT tx, id, topic, key, event_type FROM outbox
        WHERE (tx, id) > ($1::text::xid8, $2::bigint) AND tx >= $1::text::xid8
          AND tx < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY tx, id LIMIT $3
    ) o
)
SELECT tx::text AS place_tx, id, topic, key, event_type, n FROM page
WHERE event_type = ANY ($4::text[]) OR n = (SELECT max(n) FROM page)
ORDER BY n

-- name: settled
SELECT p.partner_id, p.payment_id, p.consent_id, p.merchant_id, p.amount_minor, p.currency, p.funding_token,
       p.decided_at, m.mcc, m.name_location
FROM payment p
JOIN unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id) USING (partner_id, payment_id)
JOIN consent c USING (partner_id, consent_id)
LEFT JOIN merchant m USING (merchant_id)
WHERE p.operation = 'purchase' AND p.state = 'settled' AND c.terms ? 'sharing' AND NOT 'sharing' = ANY (c.ended_purposes)
ORDER BY p.partner_id, p.payment_id

-- name: held
SELECT DISTINCT partner_id, consent_id FROM share_holder r
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
WHERE r.notice_id IS NULL
ORDER BY partner_id, consent_id

-- name: advance
UPDATE sharing_place SET tx = $3::text::xid8, id = $4
WHERE (tx, id) = ($1::text::xid8, $2::bigint)
RETURNING id

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
SELECT DISTINCT ON (r.partner_id, r.consent_id, r.affiliate_id) r.*
FROM share_holder r
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
ORDER BY r.partner_id, r.consent_id, r.affiliate_id, r.round DESC

-- name: add_shares
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
                               notice_id, cause, noticed_at, erase_by, uses)
SELECT partner_id, consent_id, customer_id, affiliate_id, round, reference, string_to_array(key_ids, ' '), since,
       notice_id, cause, noticed_at, erase_by, string_to_array(uses, ' ')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::timestamptz[],
            $9::uuid[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::text[])
    AS n (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids, since, notice_id, cause,
          noticed_at, erase_by, uses)
ORDER BY partner_id, consent_id, affiliate_id, round
ON CONFLICT (partner_id, consent_id, affiliate_id, round) DO UPDATE
SET key_ids = excluded.key_ids, uses = excluded.uses, notice_id = excluded.notice_id, cause = excluded.cause, noticed_at = excluded.noticed_at,
    erase_by = excluded.erase_by

-- name: must_erase
SELECT DISTINCT r.partner_id, r.consent_id
FROM share_holder r JOIN consent c USING (partner_id, consent_id)
WHERE r.notice_id IS NULL
  AND (c.status NOT IN ('AUTH', 'SUSP') OR 'sharing' = ANY (c.ended_purposes) OR NOT c.terms ? 'sharing'
       OR (c.terms -> 'sharing' ->> 'use_until')::timestamptz <= $1 OR (c.terms ->> 'valid_until')::timestamptz <= $1
       OR NOT c.terms -> 'sharing' -> 'affiliates' ? r.affiliate_id
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

-- name: overdue
SELECT count(*) AS notices, min(erase_by) AS since FROM share_holder
WHERE notice_id IS NOT NULL AND confirmed_at IS NULL AND erase_by <= $1
