-- Which round a transfer is of is counted where it may not be the first: whoever posts says 0 where it is, and the
-- primary key holds them to it. A call for every payment that is settled took two thirds of writing the transfer.
-- The release before says nothing, of no transfer: all of its own are counted.
ALTER TABLE ledger_transfer ALTER COLUMN round DROP DEFAULT;
CREATE OR REPLACE FUNCTION ledger_round() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.kind NOT IN ('settled', 'settlement_undone') THEN
        NEW.round := 0;
        RETURN NEW;
    END IF;
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
DROP TRIGGER ledger_rounds ON ledger_transfer;
CREATE TRIGGER ledger_rounds BEFORE INSERT ON ledger_transfer
    FOR EACH ROW WHEN (NEW.round IS DISTINCT FROM 0 OR NEW.kind = 'settlement_undone') EXECUTE FUNCTION ledger_round();
