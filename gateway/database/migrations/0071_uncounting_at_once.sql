-- One look a statement at what it deletes: what a table counted goes all at once, and a call for each row of a large one
-- took longer than a statement may.
DROP TRIGGER kept_for_its_time ON marketing_table_payment;
CREATE OR REPLACE FUNCTION refuse_early_uncounting() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM marketing_table t
               WHERE t.published_at > now() - interval '60 days'
                 AND (t.week, t.currency, t.revision) IN (SELECT week, currency, revision FROM gone)) THEN
        RAISE EXCEPTION '% is append-only for 60 days', TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER kept_for_its_time AFTER DELETE ON marketing_table_payment REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_early_uncounting();
