-- Due standing orders are dealt out among their partners, each of whose stand together here. The index by time alone
-- stays for a release of before.
CREATE INDEX IF NOT EXISTS standing_order_turn ON standing_order (partner_id, next_due_at, standing_order_id)
WHERE status = 'active';
