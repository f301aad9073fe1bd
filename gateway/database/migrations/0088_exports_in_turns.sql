-- Exports that wait are made one of each partner's in turn, whose stand together here. The index by time alone stays for a
-- release of before.
CREATE INDEX IF NOT EXISTS portability_export_turn ON portability_export (partner_id, created_at)
WHERE state IN ('waiting', 'sending');
