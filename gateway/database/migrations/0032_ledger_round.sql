-- Runs for every payment that is settled. A condition with a subquery is a query of its own in PL/pgSQL, whatever stands
-- before it: it is asked only of what undoes a settlement.
CREATE OR REPLACE FUNCTION ledger_round() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- The payment's row is locked by whoever posts, so nobody else counts meanwhile.
    NEW.round := (
        SELECT count(*) FROM ledger_transfer
        WHERE partner_id = NEW.partner_id AND payment_id = NEW.payment_id AND kind = 'settlement_undone'
    );
    IF NEW.kind = 'settlement_undone' THEN
        IF NOT EXISTS (
            SELECT FROM ledger_transfer
            WHERE partner_id = NEW.partner_id AND payment_id = NEW.payment_id AND kind = 'settled' AND round = NEW.round
        ) THEN
            RAISE EXCEPTION 'only a settlement can be undone' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;
