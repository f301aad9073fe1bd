-- name: campaigns
SELECT body, active, offers, held_minor, used_minor FROM campaign ORDER BY campaign_id

-- name: lock_campaigns
SELECT body, active, offers, held_minor, used_minor FROM campaign c WHERE campaign_id = ANY ($1::text[])
ORDER BY campaign_id
FOR NO KEY UPDATE OF c

-- name: write_campaigns
UPDATE campaign c
SET offers = u.offers, held_minor = u.held_minor, used_minor = u.used_minor
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (campaign_id, offers, held_minor, used_minor)
WHERE c.campaign_id = u.campaign_id

-- name: candidates
SELECT partner_id, consent_id FROM consent
WHERE (partner_id, consent_id) > ($1, $2) AND terms ? 'marketing' AND status = 'AUTH'
  AND NOT 'marketing' = ANY (ended_purposes)
ORDER BY partner_id, consent_id
LIMIT $3

-- name: end_of_events
SELECT tx::text AS place_tx, id FROM outbox WHERE tx < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY tx DESC, id DESC LIMIT 1

-- name: follow
-- Nothing can come to stand before these rows, and partitions are passed over by tx alone. A planner that knew place
-- and limit would take all that is younger than its statistics for a few rows, and sort it for each page.
WITH page AS MATERIALIZED (
    SELECT o.tx, o.id, o.topic, o.key, o.event_type FROM outbox o
    WHERE (o.tx, o.id) > ((SELECT $1::text::xid8), (SELECT $2::bigint)) AND o.tx >= (SELECT $1::text::xid8)
      AND o.tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY o.tx, o.id LIMIT (SELECT $3::bigint)
), touched AS (
    SELECT substr(topic, length($4::text) + 1) AS partner_id, key AS consent_id FROM page WHERE event_type = $5
    UNION
    SELECT p.partner_id, p.consent_id FROM page e
    JOIN payment p ON p.partner_id = substr(e.topic, length($4::text) + 1)
        AND p.payment_id = CASE WHEN e.event_type = $6 THEN e.key::uuid END
    WHERE e.event_type = $6
)
SELECT (SELECT count(*) FROM page) AS looked_at,
       (SELECT tx::text FROM page ORDER BY page.tx DESC, page.id DESC LIMIT 1) AS place_tx,
       (SELECT id FROM page ORDER BY page.tx DESC, page.id DESC LIMIT 1) AS place_id,
       ARRAY(SELECT ARRAY[c.partner_id, c.consent_id] FROM touched t JOIN consent c USING (partner_id, consent_id)
             WHERE c.terms ? 'marketing' AND c.status = 'AUTH' AND NOT 'marketing' = ANY (c.ended_purposes)
             ORDER BY c.partner_id, c.consent_id) AS keys

-- name: paid
SELECT p.partner_id, p.consent_id, p.payment_id, p.amount_minor, p.currency, p.decided_at, m.mcc, m.name_location
FROM payment p
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)
LEFT JOIN merchant m USING (merchant_id)
WHERE p.operation = 'purchase' AND p.state = 'settled' AND p.decided_at >= $3
ORDER BY p.partner_id, p.payment_id

-- name: add_customers
INSERT INTO marketing_customer (customer_id)
SELECT customer_id FROM unnest($1::text[]) AS n (customer_id)
ORDER BY customer_id
ON CONFLICT (customer_id) DO NOTHING

-- name: lock_customers
SELECT customer_id FROM marketing_customer c WHERE customer_id = ANY ($1::text[])
ORDER BY customer_id
FOR NO KEY UPDATE OF c

-- name: offers_of
SELECT * FROM offer WHERE customer_id = ANY ($1::text[]) ORDER BY customer_id, campaign_id

-- name: add_offers
INSERT INTO offer (campaign_id, customer_id, offer_id, partner_id, consent_id, consent_version, affiliate_id, channels,
                   currency, worth_minor, uses_max, granted_at, expires_at, state, uses, used_minor)
SELECT campaign_id, customer_id, offer_id, partner_id, consent_id, consent_version, affiliate_id,
       string_to_array(channels, ' '), currency, worth_minor, uses_max, granted_at, expires_at, 'open', 0, 0
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[], $9::text[],
            $10::bigint[], $11::integer[], $12::timestamptz[], $13::timestamptz[])
    AS n (campaign_id, customer_id, offer_id, partner_id, consent_id, consent_version, affiliate_id, channels, currency,
          worth_minor, uses_max, granted_at, expires_at)
ORDER BY campaign_id, customer_id
ON CONFLICT (campaign_id, customer_id) DO NOTHING
RETURNING campaign_id, customer_id

-- name: offers
SELECT * FROM offer WHERE offer_id = ANY ($1::uuid[])

-- name: lock_offers
SELECT o.* FROM offer o WHERE offer_id = ANY ($1::uuid[])
ORDER BY offer_id
FOR NO KEY UPDATE OF o

-- name: write_offers
UPDATE offer o
SET state = u.state, uses = u.uses, used_minor = u.used_minor, ended_at = u.ended_at
FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bigint[], $5::timestamptz[])
    AS u (offer_id, state, uses, used_minor, ended_at)
WHERE o.offer_id = u.offer_id

-- name: must_end
SELECT o.* FROM offer o LEFT JOIN consent c USING (partner_id, consent_id)
WHERE o.state = 'open'
  AND (o.expires_at <= $1 OR coalesce(c.status, '') NOT IN ('AUTH', 'SUSP') OR 'marketing' = ANY (c.ended_purposes)
       OR NOT c.terms ? 'marketing' OR (c.terms -> 'marketing' ->> 'until')::timestamptz <= $1 OR c.valid_until <= $1
       OR NOT c.terms -> 'marketing' -> 'affiliates' ? o.affiliate_id
       OR NOT c.terms -> 'marketing' -> 'channels' ?& o.channels)
ORDER BY o.partner_id, o.consent_id, o.offer_id
LIMIT $2

-- name: uses
SELECT u.* FROM offer_use u
JOIN unnest($1::text[], $2::text[]) AS k (affiliate_id, use_id) USING (affiliate_id, use_id)

-- name: add_uses
INSERT INTO offer_use (affiliate_id, use_id, offer_id, digest, amount_minor, reason_code, reason_text, handled_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[], $5::bigint[], $6::text[], $7::text[],
                     $8::timestamptz[])
    AS n (affiliate_id, use_id, offer_id, digest, amount_minor, reason_code, reason_text, handled_at)
ORDER BY affiliate_id, use_id
ON CONFLICT (affiliate_id, use_id) DO NOTHING
RETURNING affiliate_id, use_id

-- name: published
SELECT t.revision, p.payment_id, p.customer_id, p.category, p.region, p.amount_minor
FROM marketing_table t LEFT JOIN marketing_table_payment p USING (week, currency, revision)
WHERE t.week = $1 AND t.currency = $2
ORDER BY t.revision, p.payment_id

-- name: add_table
INSERT INTO marketing_table (week, currency, revision, published_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (week, currency, revision) DO NOTHING
RETURNING revision

-- name: add_table_payments
INSERT INTO marketing_table_payment (week, currency, revision, payment_id, customer_id, category, region, amount_minor)
SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[])
