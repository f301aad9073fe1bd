-- What one operator may do alone at once is to hurry: whoever may not take a follow-up over does not delay one, and
-- whoever sends no reminder does not take one back.
CREATE FUNCTION refuse_delay() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_column_privilege(current_user, TG_RELID, TG_ARGV[0], 'UPDATE') THEN
        RAISE EXCEPTION '% may hurry what waits in %, and not delay it', current_user, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_hurried BEFORE UPDATE OF next_attempt_at ON reversal FOR EACH ROW
    WHEN (NEW.next_attempt_at > OLD.next_attempt_at OR NOT isfinite(NEW.next_attempt_at))
    EXECUTE FUNCTION refuse_delay('leased_by');
CREATE TRIGGER only_hurried BEFORE UPDATE OF next_attempt_at ON inquiry FOR EACH ROW
    WHEN (NEW.next_attempt_at > OLD.next_attempt_at OR NOT isfinite(NEW.next_attempt_at))
    EXECUTE FUNCTION refuse_delay('leased_by');
CREATE TRIGGER only_hurried BEFORE UPDATE OF remind_at ON share_holder FOR EACH ROW
    -- An operator's clock may go wrong by minutes.
    WHEN (OLD.remind_at <> NEW.remind_at OR NOT isfinite(NEW.remind_at) OR (OLD.remind_at IS NOT NULL AND NEW.remind_at IS NULL)
          OR NEW.remind_at > clock_timestamp() + interval '1 hour')
    EXECUTE FUNCTION refuse_delay('reminders');

-- Whose login resolved a break, and when, is the database's word.
ALTER TABLE break_resolution ADD COLUMN login text NOT NULL DEFAULT '';
CREATE FUNCTION stamp_break_resolution() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.login := session_user;
    NEW.resolved_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER break_resolution_stamp BEFORE INSERT ON break_resolution
    FOR EACH ROW EXECUTE FUNCTION stamp_break_resolution();
