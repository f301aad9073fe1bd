-- For which network's execution an order that is due is held, since that is far behind: '' where it is for none. Of each
-- partners take turns. The index by partner alone was of no release.
ALTER TABLE scheduled_order ADD COLUMN IF NOT EXISTS held_for text NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS scheduled_order_turn ON scheduled_order (held_for, partner_id, look_at, payment_id)
    WHERE closed_at IS NULL;
DROP INDEX scheduled_order_partner;
