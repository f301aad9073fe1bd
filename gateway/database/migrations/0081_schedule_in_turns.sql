-- Of what is due partners take turns: each one's orders stand in an order of their own. What has expired is found among
-- any number that are due. The index by look_at stays for those who watch, and for the release before.
CREATE INDEX IF NOT EXISTS scheduled_order_partner ON scheduled_order (partner_id, look_at, payment_id)
    WHERE closed_at IS NULL;
CREATE INDEX IF NOT EXISTS scheduled_order_expiring ON scheduled_order (expires_at) WHERE closed_at IS NULL;
