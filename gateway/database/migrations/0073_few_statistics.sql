-- Rows of these are found by key and never but added: what a column holds how often decides nothing there. So a few rows
-- are looked at where they are analyzed, and of columns that no statement searches by none.
ALTER TABLE share
    ALTER COLUMN partner_id SET STATISTICS 10,
    ALTER COLUMN payment_id SET STATISTICS 10,
    ALTER COLUMN affiliate_id SET STATISTICS 10,
    ALTER COLUMN consent_id SET STATISTICS 10,
    ALTER COLUMN consent_version SET STATISTICS 0,
    ALTER COLUMN round SET STATISTICS 10,
    ALTER COLUMN share_id SET STATISTICS 0,
    ALTER COLUMN key_id SET STATISTICS 0,
    ALTER COLUMN uses SET STATISTICS 0,
    ALTER COLUMN fields SET STATISTICS 0,
    ALTER COLUMN use_until SET STATISTICS 0,
    ALTER COLUMN shared_at SET STATISTICS 0;
ALTER TABLE disclosure_entry
    ALTER COLUMN seq SET STATISTICS 10,
    ALTER COLUMN source_tx SET STATISTICS 0,
    ALTER COLUMN source_id SET STATISTICS 10,
    ALTER COLUMN content_hash SET STATISTICS 0,
    ALTER COLUMN entry_hash SET STATISTICS 0;
ALTER TABLE disclosure_content
    ALTER COLUMN seq SET STATISTICS 10,
    ALTER COLUMN salt SET STATISTICS 0,
    ALTER COLUMN kind SET STATISTICS 10,
    ALTER COLUMN customer_id SET STATISTICS 10,
    ALTER COLUMN partner_id SET STATISTICS 10,
    ALTER COLUMN consent_id SET STATISTICS 10,
    ALTER COLUMN consent_version SET STATISTICS 0,
    ALTER COLUMN recipient SET STATISTICS 10,
    ALTER COLUMN purpose SET STATISTICS 10,
    ALTER COLUMN legal_basis SET STATISTICS 0,
    ALTER COLUMN what SET STATISTICS 0,
    ALTER COLUMN reference SET STATISTICS 0,
    ALTER COLUMN occurred_at SET STATISTICS 10;
