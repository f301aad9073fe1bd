-- Partitions by the order of relaying: ranges of transaction numbers. Reading goes on as before, and ends of partitions
-- are no ends of anything else. What was there becomes the first one; the bound is known to hold, so it is not read again.
ALTER TABLE outbox RENAME TO outbox_first;
ALTER TABLE outbox_first RENAME CONSTRAINT outbox_pkey TO outbox_first_pkey;
ALTER INDEX outbox_occurred_at RENAME TO outbox_first_occurred_at;

-- PostgreSQL 16 knows no identity of a partitioned table. The number goes on where it was.
CREATE SEQUENCE outbox_number AS bigint;
SELECT setval('outbox_number', nextval(pg_get_serial_sequence('outbox_first', 'id')));
ALTER TABLE outbox_first ALTER COLUMN id DROP IDENTITY;

CREATE TABLE outbox (
    tx          xid8 NOT NULL DEFAULT greatest(
        pg_current_xact_id(),
        (pg_snapshot_xmax(pg_current_snapshot())::text::numeric - 1)::text::xid8
    ),
    id          bigint NOT NULL DEFAULT nextval('outbox_number'),
    topic       text NOT NULL,
    key         text NOT NULL,
    event_id    text NOT NULL,
    event_type  text NOT NULL,
    occurred_at timestamptz NOT NULL,
    traceparent text,
    body        bytea NOT NULL,
    PRIMARY KEY (tx, id)
) PARTITION BY RANGE (tx);
CREATE INDEX outbox_occurred_at ON outbox USING brin (occurred_at) WITH (autosummarize = on);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Whoever wrote and read goes on: rights are given anew at the end of all migrations only.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT a.privilege_type AS what, NULL::name AS of, a.grantee::regrole AS whom
        FROM pg_class c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'outbox_first'::regclass AND a.grantee NOT IN (0, c.relowner)
        UNION ALL
        SELECT a.privilege_type, t.attname, a.grantee::regrole
        FROM pg_attribute t, aclexplode(t.attacl) AS a
        WHERE t.attrelid = 'outbox_first'::regclass AND a.grantee <> 0
    LOOP
        EXECUTE format('GRANT %s %s ON outbox TO %s', given.what, '(' || quote_ident(given.of) || ')', given.whom);
        IF given.what = 'INSERT' THEN
            EXECUTE format('GRANT USAGE ON SEQUENCE outbox_number TO %s', given.whom);
        END IF;
        EXECUTE format('REVOKE ALL ON outbox_first FROM %s', given.whom);
    END LOOP;
END $$;

-- Which partitions there are, and how fast transactions were when each was made.
CREATE TABLE outbox_partition (
    name    text PRIMARY KEY,
    from_tx xid8 NOT NULL,
    to_tx   xid8 NOT NULL,
    at_tx   xid8 NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_partition_range CHECK (from_tx < to_tx)
);
DO $$
DECLARE
    bound text := (
        SELECT substring(pg_get_constraintdef(oid) FROM '\d+') FROM pg_constraint
        WHERE conrelid = 'outbox_first'::regclass AND conname = 'outbox_first_bound'
    );
BEGIN
    EXECUTE format('ALTER TABLE outbox ATTACH PARTITION outbox_first FOR VALUES FROM (MINVALUE) TO (%L)', bound);
    INSERT INTO outbox_partition (name, from_tx, to_tx, at_tx)
    VALUES ('outbox_first', '0', bound::xid8, pg_snapshot_xmax(pg_current_snapshot()));
END $$;
ALTER TABLE outbox_first DROP CONSTRAINT outbox_first_bound;

-- The net below: nothing that is written is ever without a place, whatever became of the schedule or of a restored dump.
CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON outbox_rest
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Makes partitions until those for `ahead` times `width` transactions to come are there; tells how many it made.
-- width: transactions a partition; NULL: as many as a day has, by the rate since another one was made.
CREATE FUNCTION make_outbox_partitions(ahead integer, width bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    now_tx  numeric := pg_snapshot_xmax(pg_current_snapshot())::text::numeric;
    step    numeric := width;
    covered numeric := now_tx;  -- from now on until here there are partitions
    lower   numeric;
    upper   numeric;
    found_to numeric;
    made    bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(x'6f7574626f79'::bigint) THEN
        RETURN 0;
    END IF;
    IF step IS NULL THEN
        SELECT 86400 * (now_tx - p.at_tx::text::numeric) / extract(epoch FROM clock_timestamp() - p.made_at) INTO step
        FROM outbox_partition p WHERE p.made_at < clock_timestamp() - interval '10 minutes'
        ORDER BY p.made_at DESC LIMIT 1;
        step := trunc(least(greatest(coalesce(step, 0), 4194304), 1073741824));
    END IF;
    LOOP
        SELECT max(p.to_tx::text::numeric) INTO found_to FROM outbox_partition p
        WHERE p.from_tx::text::numeric <= covered AND p.to_tx::text::numeric > covered;
        IF found_to IS NOT NULL THEN
            covered := found_to;
            CONTINUE;
        END IF;
        EXIT WHEN covered - now_tx >= ahead * step;
        -- Where there is no partition already, the net has what is written meanwhile: a new one begins beyond that.
        lower := CASE covered WHEN now_tx THEN now_tx + 65536 ELSE covered END;
        covered := lower;
        CONTINUE WHEN EXISTS (
            SELECT FROM outbox_partition p WHERE p.from_tx::text::numeric <= lower AND p.to_tx::text::numeric > lower
        );
        upper := least(lower + step, (
            SELECT min(p.from_tx::text::numeric) FROM outbox_partition p WHERE p.from_tx::text::numeric > lower
        ));
        EXECUTE format('CREATE TABLE outbox_%s (LIKE outbox)', lower);
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON outbox_%s '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', lower);
        EXECUTE format('ALTER TABLE outbox ATTACH PARTITION outbox_%s FOR VALUES FROM (%L) TO (%L)', lower, lower, upper);
        INSERT INTO outbox_partition (name, from_tx, to_tx, at_tx)
        VALUES ('outbox_' || lower, lower::text::xid8, upper::text::xid8, now_tx::text::xid8);
        made := made + 1;
    END LOOP;
    RETURN made;
EXCEPTION WHEN lock_not_available OR check_violation THEN
    -- Somebody holds the net, or has just written to it: the next round comes soon.
    RETURN 0;
END $$;

-- Drops the first partition that can take no more, has been read by all (the view outbox_reader) and holds nothing younger; tells how many: 0 or 1.
-- It waits for a moment only, for everybody who writes waits behind it.
CREATE FUNCTION drop_outbox_partition(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    part   record;
    needed boolean;
BEGIN
    IF NOT pg_try_advisory_xact_lock(x'6f7574626f79'::bigint) THEN
        RETURN 0;
    END IF;
    FOR part IN
        -- A running transaction's events stand at its own number or later.
        SELECT p.name, p.from_tx, p.to_tx FROM outbox_partition p
        WHERE p.to_tx <= pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY p.to_tx
    LOOP
        EXECUTE format(
            -- The last one first: it alone tells of nearly all partitions that they are still young.
            'SELECT coalesce((SELECT o.occurred_at >= $1 FROM %1$I o ORDER BY o.tx DESC, o.id DESC LIMIT 1), false) '
            'OR EXISTS (SELECT FROM %1$I o JOIN outbox_reader r ON (o.tx, o.id) > (r.tx, r.id)) '
            'OR EXISTS (SELECT FROM %1$I o WHERE o.occurred_at >= $1)', part.name) INTO needed USING before;
        EXIT WHEN needed;
        CONTINUE WHEN EXISTS (SELECT FROM outbox_parked k WHERE k.tx >= part.from_tx AND k.tx < part.to_tx);
        EXECUTE format('DROP TABLE %I', part.name);
        DELETE FROM outbox_partition p WHERE p.name = part.name;
        RETURN 1;
    END LOOP;
    RETURN 0;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END $$;

-- What lies in no range that ends, the net and what was there before there were partitions, is still deleted row by row.
CREATE FUNCTION purge_unpartitioned_events(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part  text;
    gone  bigint;
    total bigint := 0;
BEGIN
    FOREACH part IN ARRAY ARRAY['outbox_first', 'outbox_rest'] LOOP
        CONTINUE WHEN to_regclass(part) IS NULL;
        EXECUTE format($purge$
            WITH passed AS MATERIALIZED (
                SELECT r.tx, r.id FROM outbox_reader r ORDER BY r.tx, r.id LIMIT 1
            ), first AS MATERIALIZED (
                SELECT o.tx, o.id, o.occurred_at < $1 AS old FROM %1$I o, passed c
                WHERE (o.tx, o.id) <= (c.tx, c.id)
                  AND NOT EXISTS (SELECT FROM outbox_parked p WHERE (p.tx, p.id) = (o.tx, o.id))
                ORDER BY o.tx, o.id LIMIT $2
            ), gone AS (
                DELETE FROM %1$I o USING first f
                WHERE (o.tx, o.id) = (f.tx, f.id) AND f.old
                  AND NOT EXISTS (SELECT FROM first y WHERE NOT y.old AND (y.tx, y.id) < (f.tx, f.id))
                RETURNING 1
            )
            SELECT count(*) FROM gone
        $purge$, part) INTO gone USING before, at_most - total;
        total := total + gone;
    END LOOP;
    RETURN total;
END $$;

REVOKE ALL ON FUNCTION make_outbox_partitions(integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION purge_unpartitioned_events(timestamptz, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_outbox_partition(timestamptz) FROM PUBLIC;
