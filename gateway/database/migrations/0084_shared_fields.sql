-- Which fields an affiliate holds: where the customer's terms name one of them no more, all of the round must be erased.
ALTER TABLE share_holder ADD COLUMN fields text[] NOT NULL DEFAULT '{}';
UPDATE share_holder h SET fields = s.fields
FROM (
    SELECT s.partner_id, s.consent_id, s.affiliate_id, s.round, array_agg(DISTINCT f.field ORDER BY f.field) AS fields
    FROM share s, unnest(s.fields) AS f (field)
    GROUP BY s.partner_id, s.consent_id, s.affiliate_id, s.round
) s
WHERE (h.partner_id, h.consent_id, h.affiliate_id, h.round) = (s.partner_id, s.consent_id, s.affiliate_id, s.round)
  AND h.notice_id IS NULL;
