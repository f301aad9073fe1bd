-- Of what is due partners take turns, for each network of its own: `held_for` names the network whose execution is far
-- behind, for which an order that is due is held; '' where it is for none. What has expired is found among any number that
-- are due. The index by look_at stays for those who watch, and for the release before.
ALTER TABLE scheduled_order ADD COLUMN IF NOT EXISTS held_for text NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS scheduled_order_turn ON scheduled_order (held_for, partner_id, look_at, payment_id)
    WHERE closed_at IS NULL;
CREATE INDEX IF NOT EXISTS scheduled_order_expiring ON scheduled_order (expires_at) WHERE closed_at IS NULL;
