-- A payment purpose that was over and that an amendment brought back does not bring back what was ordered before: the
-- version of the consent that a standing order was given under tells which ends came after it.
ALTER TABLE standing_order ADD COLUMN consent_version integer NOT NULL DEFAULT 0;
-- Of those from before the ends tell it that had come when they were ordered.
UPDATE standing_order s SET consent_version = e.version + 1
FROM (
    SELECT o.partner_id, o.standing_order_id, max(p.version) AS version
    FROM standing_order o JOIN consent_purpose_end p USING (partner_id, consent_id)
    WHERE p.purpose = 'payment' AND p.ended_at <= o.ordered_at
    GROUP BY o.partner_id, o.standing_order_id
) e
WHERE (s.partner_id, s.standing_order_id) = (e.partner_id, e.standing_order_id);
