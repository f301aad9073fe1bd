-- What the triggers of clearing and of the ledger's rounds look at, they look at with their owner's rights: who settles
-- needs none for it.
ALTER FUNCTION clearing_of_own_network() SECURITY DEFINER SET search_path = public, pg_temp;
ALTER FUNCTION ledger_round() SECURITY DEFINER SET search_path = public, pg_temp;
REVOKE ALL ON FUNCTION clearing_of_own_network() FROM PUBLIC;
REVOKE ALL ON FUNCTION ledger_round() FROM PUBLIC;
DROP TRIGGER clearing_superseded_append_only ON clearing_superseded;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON clearing_superseded
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
