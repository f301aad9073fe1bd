-- What tells what happened is only added to. The rights of the roles that run say so already (adapters/postgres/roles.py);
-- these triggers hold also for a role that was given too much, and for the owner as long as they stand.
ALTER FUNCTION refuse_change() SET search_path = pg_catalog, pg_temp;
DROP TRIGGER ledger_append_only ON ledger_transfer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ledger_transfer', 'refusal', 'consent_command', 'cancellation_answer', 'late_answer',
                                'revoked_issuer_key'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
    -- Rows of these are deleted when their time is over, by the functions below; none is ever changed.
    FOREACH name IN ARRAY ARRAY['used_assertion', 'outbox'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
END $$;

-- A version's terms never change; its proof is filled in once.
CREATE FUNCTION refuse_other_than_first_proof() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.issuer IS NOT NULL
       OR (NEW.partner_id, NEW.consent_id, NEW.version, NEW.terms, NEW.digest, NEW.created_at)
          IS DISTINCT FROM (OLD.partner_id, OLD.consent_id, OLD.version, OLD.terms, OLD.digest, OLD.created_at) THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER proof_once BEFORE UPDATE ON consent_version
    FOR EACH ROW EXECUTE FUNCTION refuse_other_than_first_proof();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON consent_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Whoever locks a row must be permitted to change something of it: a column that can hold nothing else.
ALTER TABLE consent ADD COLUMN lock_only boolean NOT NULL DEFAULT true
    CONSTRAINT consent_lock_only CHECK (lock_only);

-- Events that were relayed and are old, from the beginning of the key on: one range, however large the table is.
CREATE FUNCTION purge_relayed_events(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH first AS MATERIALIZED (
        SELECT o.tx, o.id, o.occurred_at < before AS old FROM outbox o, outbox_cursor c
        WHERE (o.tx, o.id) <= (c.tx, c.id)
          AND NOT EXISTS (SELECT FROM outbox_parked p WHERE (p.tx, p.id) = (o.tx, o.id))
        ORDER BY o.tx, o.id LIMIT at_most
    ), gone AS (
        DELETE FROM outbox o USING first f
        WHERE (o.tx, o.id) = (f.tx, f.id) AND f.old
          AND NOT EXISTS (SELECT FROM first y WHERE NOT y.old AND (y.tx, y.id) < (f.tx, f.id))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- Used proofs that nothing can replay any more. The server's own clock has a say: whoever calls cannot make one usable
-- again before its time.
CREATE FUNCTION purge_used_assertions(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH old AS MATERIALIZED (
        SELECT jti, issuer FROM used_assertion
        WHERE keep_until < least(before, now())
        ORDER BY keep_until
        LIMIT at_most
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM used_assertion u USING old WHERE (u.jti, u.issuer) = (old.jti, old.issuer)
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

REVOKE ALL ON FUNCTION purge_relayed_events(timestamptz, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION purge_used_assertions(timestamptz, integer) FROM PUBLIC;
