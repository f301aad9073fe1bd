-- name: affiliates
SELECT a.affiliate_id, a.name, a.home_group, a.active, a.created_at,
       (SELECT array_agg(p.purpose ORDER BY p.purpose) FROM affiliate_approval p
        WHERE p.affiliate_id = a.affiliate_id AND p.withdrawn_at IS NULL) AS approved,
       (SELECT array_agg(k.kid ORDER BY k.kid) FROM affiliate_key k
        WHERE k.affiliate_id = a.affiliate_id AND k.disabled_at IS NULL) AS kids
FROM affiliate a
ORDER BY a.affiliate_id

-- name: holders
SELECT h.affiliate_id, h.partner_id, h.consent_id, h.round, h.reference, h.since, h.noticed_at, h.cause, h.erase_by,
       h.confirmed_at, h.erased, h.notice_id,
       (SELECT count(*) FROM share s
        WHERE (s.partner_id, s.consent_id, s.affiliate_id, s.round)
            = (h.partner_id, h.consent_id, h.affiliate_id, h.round)) AS shares
FROM share_holder h
WHERE ($1::text IS NULL OR h.affiliate_id = $1) AND ($2::text IS NULL OR h.consent_id = $2)
ORDER BY h.since DESC, h.affiliate_id
LIMIT $3

-- name: count_by_key
SELECT key_id, count(*) AS holders
FROM share_holder, unnest(key_ids) AS key_id
WHERE confirmed_at IS NULL
GROUP BY key_id
