-- What has ended stays ended, for whoever may write the table: a consent that was rejected, revoked or has expired, and
-- the moment at which a key was disabled.
CREATE FUNCTION refuse_what_ended() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% that has ended stays as it is', TG_TABLE_NAME;
END $$;
REVOKE ALL ON FUNCTION refuse_what_ended() FROM PUBLIC;
CREATE TRIGGER ended BEFORE UPDATE OF status ON consent FOR EACH ROW
    WHEN (OLD.status IN ('RJCT', 'CANC', 'EXPD') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION refuse_what_ended();
CREATE TRIGGER ended BEFORE UPDATE OF disabled_at ON partner_key FOR EACH ROW
    WHEN (OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS DISTINCT FROM OLD.disabled_at)
    EXECUTE FUNCTION refuse_what_ended();
CREATE TRIGGER ended BEFORE UPDATE OF disabled_at ON affiliate_key FOR EACH ROW
    WHEN (OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS DISTINCT FROM OLD.disabled_at)
    EXECUTE FUNCTION refuse_what_ended();
CREATE TRIGGER ended BEFORE UPDATE OF disabled_at ON recipient_key FOR EACH ROW
    WHEN (OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS DISTINCT FROM OLD.disabled_at)
    EXECUTE FUNCTION refuse_what_ended();
