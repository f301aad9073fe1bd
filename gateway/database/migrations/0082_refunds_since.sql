-- What was given back under a consent since a recipient last asked: the purchases are told again. Payments that are no
-- refunds cost it nothing. Its condition is asked by nobody else: who looks for a purchase's refunds has another index.
CREATE INDEX IF NOT EXISTS payment_refund_changed ON payment (partner_id, consent_id, changed_at)
    WHERE operation = 'refund';
