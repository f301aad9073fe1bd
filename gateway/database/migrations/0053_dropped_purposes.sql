-- A purpose that was over, or that an amendment has dropped since, stays over where terms have it again: what consents'
-- rows tell of purposes that their terms have no more was lost with these terms.
UPDATE consent c SET ended_purposes = ended_purposes || e.lost
FROM (
    SELECT c.partner_id, c.consent_id, array_agg(DISTINCT p.purpose) AS lost
    FROM consent c JOIN consent_purpose_end p USING (partner_id, consent_id)
    WHERE NOT c.terms ? p.purpose AND NOT p.purpose = ANY (c.ended_purposes)
    GROUP BY c.partner_id, c.consent_id
) e
WHERE (c.partner_id, c.consent_id) = (e.partner_id, e.consent_id);
