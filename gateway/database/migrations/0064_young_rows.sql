-- Rows that the owner's functions destroy once their time is over cannot be deleted before, by anybody: a trigger sees to
-- it as for what is kept for ever.
CREATE FUNCTION refuse_early_deletion() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (to_jsonb(OLD) ->> TG_ARGV[0])::timestamptz > now() - TG_ARGV[1]::interval THEN
        RAISE EXCEPTION '% is append-only for %', TG_TABLE_NAME, TG_ARGV[1];
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON share
    FOR EACH ROW EXECUTE FUNCTION refuse_early_deletion('shared_at', '3 years');
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON operator_action
    FOR EACH ROW EXECUTE FUNCTION refuse_early_deletion('at', '3 years');
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON operator_proposal
    FOR EACH ROW EXECUTE FUNCTION refuse_early_deletion('expires_at', '3 years');
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON operator_decision
    FOR EACH ROW EXECUTE FUNCTION refuse_early_deletion('decided_at', '3 years');
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON console_sign_in
    FOR EACH ROW EXECUTE FUNCTION refuse_early_deletion('at', '3 years');

CREATE FUNCTION refuse_early_uncounting() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM marketing_table t
               WHERE (t.week, t.currency, t.revision) = (OLD.week, OLD.currency, OLD.revision)
                 AND t.published_at > now() - interval '60 days') THEN
        RAISE EXCEPTION '% is append-only for 60 days', TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER kept_for_its_time BEFORE DELETE ON marketing_table_payment
    FOR EACH ROW EXECUTE FUNCTION refuse_early_uncounting();
