-- The archive: payments that have been final for long stand in files. Here stays what is needed for ever: that their ids
-- are used, and what is told of them when an order comes again.
CREATE TABLE archive_file (
    file_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status     text NOT NULL DEFAULT 'writing' CONSTRAINT archive_file_status CHECK (
        status IN ('writing', 'written', 'moved', 'abandoned')),
    payments   integer,
    sha256     bytea,
    begun_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_at timestamptz,
    moved_at   timestamptz,
    CONSTRAINT archive_file_written CHECK (
        status NOT IN ('written', 'moved') OR num_nulls(payments, sha256, written_at) = 0)
);
-- Its past is never told otherwise: what a file is to hold does not change once it is written.
CREATE FUNCTION keep_archive_file() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.status, NEW.status) NOT IN (('writing', 'written'), ('writing', 'abandoned'), ('written', 'moved'))
       OR (OLD.status <> 'writing' AND (NEW.payments, NEW.sha256, NEW.written_at)
                                       IS DISTINCT FROM (OLD.payments, OLD.sha256, OLD.written_at)) THEN
        RAISE EXCEPTION 'archive_file % is %', OLD.file_id, OLD.status USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER archive_file_steps BEFORE UPDATE ON archive_file
    FOR EACH ROW EXECUTE FUNCTION keep_archive_file();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON archive_file
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE archived_payment (
    partner_id          text NOT NULL,
    payment_id          uuid NOT NULL,
    order_id            text NOT NULL,
    consent_id          text NOT NULL,
    consent_version     integer NOT NULL,
    merchant_id         text NOT NULL,
    operation           text NOT NULL,
    amount_minor        bigint NOT NULL,
    currency            text NOT NULL,
    order_digest        bytea NOT NULL,
    state               text NOT NULL CONSTRAINT archived_payment_final CHECK (
        state IN ('rejected', 'declined', 'reversed', 'settled')),
    version             integer NOT NULL,
    reason_code         text,
    reason_text         text,
    network_code        text,
    network_id          text,
    terminal_id         text,
    stan                integer,
    rrn                 text,
    transmitted_at      timestamptz,
    approval_code       text,
    ordered_at          timestamptz NOT NULL,
    decided_at          timestamptz NOT NULL,
    changed_at          timestamptz NOT NULL,
    original_payment_id uuid,
    file_id             bigint NOT NULL REFERENCES archive_file,
    PRIMARY KEY (partner_id, payment_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archived_payment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- An id is used for ever. Whoever inserts has looked before; this looks again at what has committed meanwhile.
CREATE FUNCTION refuse_archived_ids() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM added JOIN archived_payment USING (partner_id, payment_id)) THEN
        RAISE EXCEPTION 'a payment with this id is archived' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER archived_ids AFTER INSERT ON payment REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archived_ids();

-- Payments and their transfers are deleted once they stand in the archive, by nobody otherwise.
CREATE FUNCTION refuse_unarchived() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM gone g WHERE NOT EXISTS (
        SELECT FROM archived_payment a WHERE (a.partner_id, a.payment_id) = (g.partner_id, g.payment_id))) THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER append_only ON ledger_transfer;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON ledger_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER archived_only AFTER DELETE ON ledger_transfer REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unarchived();
CREATE TRIGGER archived_only AFTER DELETE ON payment REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unarchived();

-- Everything that is to be kept of these payments, as one record each; no row for one that is not to be archived: it is
-- not final, or not for long, somebody still waits for something of it, its accounts are not even, or it is not given
-- together with all its refunds or with its original.
CREATE FUNCTION archivable(partners text[], ids uuid[], before timestamptz)
RETURNS TABLE (partner_id text, payment_id uuid, record jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' SET bytea_output = 'hex' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH unread AS MATERIALIZED (
        -- Events that somebody is still to read, and what could not be relayed. Of very many nothing is known.
        SELECT o.key FROM outbox o, (SELECT r.tx, r.id FROM outbox_reader r ORDER BY r.tx, r.id LIMIT 1) c
        WHERE (o.tx, o.id) > (c.tx, c.id)
        UNION ALL
        SELECT o.key FROM outbox_parked p JOIN outbox o ON (o.tx, o.id) = (p.tx, p.id)
        LIMIT 100001
    ), broken AS MATERIALIZED (
        SELECT c.partner_id, c.payment_id FROM clearing_record c
        WHERE c.break_kind IS NOT NULL AND c.payment_id IS NOT NULL
    ), awaiting AS MATERIALIZED (
        SELECT c.partner_id, c.payment_id FROM cancellation c WHERE c.is_open
    ), fit AS MATERIALIZED (
        SELECT p.partner_id, p.payment_id, p.original_payment_id, p AS payment
        FROM unnest(partners, ids) AS k (partner_id, payment_id)
        JOIN payment p USING (partner_id, payment_id)
        WHERE p.state IN ('rejected', 'declined', 'reversed', 'settled')
          -- The server's own clock has a say.
          AND p.changed_at < least(before, now() - interval '1 day')
          AND (SELECT count(*) FROM unread) <= 100000
          AND p.payment_id::text NOT IN (SELECT u.key FROM unread u)
          AND (p.partner_id, p.payment_id) NOT IN (SELECT b.partner_id, b.payment_id FROM broken b)
          AND (p.partner_id, p.payment_id) NOT IN (SELECT w.partner_id, w.payment_id FROM awaiting w)
          AND NOT EXISTS (
              SELECT FROM reversal f
              WHERE (f.partner_id, f.payment_id) = (p.partner_id, p.payment_id) AND f.closed_at IS NULL)
          AND NOT EXISTS (
              SELECT FROM inquiry f
              WHERE (f.partner_id, f.payment_id) = (p.partner_id, p.payment_id) AND f.closed_at IS NULL)
          AND NOT EXISTS (
              SELECT FROM scheduled_order s
              WHERE (s.partner_id, s.payment_id) = (p.partner_id, p.payment_id) AND s.closed_at IS NULL)
          AND NOT EXISTS (
              SELECT FROM ledger_transfer t,
                  LATERAL (VALUES (t.debit, t.amount_minor), (t.credit, -t.amount_minor)) AS side (account, minor)
              WHERE (t.partner_id, t.payment_id) = (p.partner_id, p.payment_id)
              GROUP BY side.account HAVING sum(side.minor) <> 0)
    ), whole AS MATERIALIZED (
        SELECT f.* FROM fit f
        WHERE NOT EXISTS (
            SELECT FROM payment r
            WHERE (r.partner_id, r.original_payment_id) = (f.partner_id, f.payment_id)
              AND NOT EXISTS (SELECT FROM fit o WHERE (o.partner_id, o.payment_id) = (r.partner_id, r.payment_id)))
    )
    SELECT a.partner_id, a.payment_id, jsonb_build_object(
        'payment', to_jsonb(a.payment),
        'transfers', (
            SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.posted_at, t.kind, t.round), '[]') FROM ledger_transfer t
            WHERE (t.partner_id, t.payment_id) = (a.partner_id, a.payment_id)),
        'clearing', (
            SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.imported_at), '[]') FROM clearing_record c
            WHERE (c.partner_id, c.payment_id) = (a.partner_id, a.payment_id) AND c.payment_id IS NOT NULL
              AND c.break_kind IS NULL),
        'inquiry', (
            SELECT to_jsonb(f) FROM inquiry f WHERE (f.partner_id, f.payment_id) = (a.partner_id, a.payment_id)),
        'reversal', (
            SELECT to_jsonb(f) FROM reversal f WHERE (f.partner_id, f.payment_id) = (a.partner_id, a.payment_id)),
        'schedule', (
            SELECT to_jsonb(s) FROM scheduled_order s
            WHERE (s.partner_id, s.payment_id) = (a.partner_id, a.payment_id)))
    FROM whole a
    WHERE a.original_payment_id IS NULL
       OR EXISTS (SELECT FROM whole o WHERE (o.partner_id, o.payment_id) = (a.partner_id, a.original_payment_id))
       OR NOT EXISTS (
           SELECT FROM payment p WHERE (p.partner_id, p.payment_id) = (a.partner_id, a.original_payment_id));
END $$;

-- Moves payments into the archive whose file is written: those that are still exactly what the file holds (`digests`:
-- SHA-256 of each record). Whatever another transaction holds stays.
CREATE FUNCTION archive_payments(file bigint, partners text[], ids uuid[], digests bytea[], before timestamptz)
RETURNS TABLE (partner_id text, payment_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_partners text[];
    found_ids      uuid[];
    asked          integer;
BEGIN
    IF NOT EXISTS (SELECT FROM archive_file f WHERE f.file_id = file AND f.status = 'written') THEN
        RAISE EXCEPTION 'archive_file % is not written', file USING ERRCODE = 'check_violation';
    END IF;
    -- Locked first, looked at after it: a refund takes its original's lock.
    SELECT array_agg(l.partner_id), array_agg(l.payment_id) INTO found_partners, found_ids FROM (
        SELECT p.partner_id, p.payment_id FROM payment p
        JOIN unnest(partners, ids) AS k (partner_id, payment_id) USING (partner_id, payment_id)
        ORDER BY p.partner_id, p.payment_id
        FOR UPDATE OF p SKIP LOCKED) l;
    LOOP
        -- Again while fewer are left: what stays may keep its original or its refunds.
        asked := coalesce(cardinality(found_ids), 0);
        EXIT WHEN asked = 0;
        SELECT array_agg(r.partner_id), array_agg(r.payment_id) INTO found_partners, found_ids
        FROM archivable(found_partners, found_ids, before) r
        JOIN unnest(partners, ids, digests) AS k (partner_id, payment_id, digest) USING (partner_id, payment_id)
        WHERE sha256(convert_to(r.record::text, 'UTF8')) = k.digest;
        EXIT WHEN asked = cardinality(found_ids);
    END LOOP;

    INSERT INTO archived_payment
    SELECT p.partner_id, p.payment_id, p.order_id, p.consent_id, p.consent_version, p.merchant_id, p.operation,
        p.amount_minor, p.currency, p.order_digest, p.state, p.version, p.reason_code, p.reason_text, p.network_code,
        p.network_id, p.terminal_id, p.stan, p.rrn, p.transmitted_at, p.approval_code, p.ordered_at, p.decided_at,
        p.changed_at, p.original_payment_id, file
    FROM payment p JOIN unnest(found_partners, found_ids) AS k (partner_id, payment_id) USING (partner_id, payment_id);
    DELETE FROM ledger_transfer t USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (t.partner_id, t.payment_id) = (k.partner_id, k.payment_id);
    DELETE FROM clearing_record c USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (c.partner_id, c.payment_id) = (k.partner_id, k.payment_id) AND c.payment_id IS NOT NULL
      AND c.break_kind IS NULL;
    DELETE FROM inquiry f USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (f.partner_id, f.payment_id) = (k.partner_id, k.payment_id);
    DELETE FROM reversal f USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (f.partner_id, f.payment_id) = (k.partner_id, k.payment_id);
    DELETE FROM scheduled_order s USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (s.partner_id, s.payment_id) = (k.partner_id, k.payment_id);
    DELETE FROM payment p USING unnest(found_partners, found_ids) AS k (partner_id, payment_id)
    WHERE (p.partner_id, p.payment_id) = (k.partner_id, k.payment_id);
    RETURN QUERY SELECT k.partner_id, k.payment_id FROM unnest(found_partners, found_ids) AS k (partner_id, payment_id);
END $$;

REVOKE ALL ON FUNCTION archivable(text[], uuid[], timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION archive_payments(bigint, text[], uuid[], bytea[], timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION refuse_archived_ids() FROM PUBLIC;
REVOKE ALL ON FUNCTION refuse_unarchived() FROM PUBLIC;
REVOKE ALL ON FUNCTION keep_archive_file() FROM PUBLIC;
