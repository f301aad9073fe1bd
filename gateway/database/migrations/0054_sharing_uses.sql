-- What an affiliate holds was given for certain uses: where one of these is approved no more, or the customer's terms name
-- it no more, all of the round must be erased.
ALTER TABLE share_holder ADD COLUMN uses text[] NOT NULL DEFAULT '{}';
UPDATE share_holder h SET uses = s.uses
FROM (
    SELECT s.partner_id, s.consent_id, s.affiliate_id, s.round, array_agg(DISTINCT u.use ORDER BY u.use) AS uses
    FROM share s, unnest(s.uses) AS u (use)
    GROUP BY s.partner_id, s.consent_id, s.affiliate_id, s.round
) s
WHERE (h.partner_id, h.consent_id, h.affiliate_id, h.round) = (s.partner_id, s.consent_id, s.affiliate_id, s.round);

ALTER TABLE share_holder DROP CONSTRAINT share_holder_cause;
ALTER TABLE share_holder ADD CONSTRAINT share_holder_cause CHECK (cause IN ('ended', 'dropped', 'withdrawn'));
