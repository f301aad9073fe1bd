-- Events are found by their place or their time, and never but added. What a column holds how often decides nothing there:
-- so a tenth of the rows is looked at where a partition is analyzed, and of bodies none. A table that is made like another,
-- or becomes a partition, takes no such targets over: each partition has its own.
CREATE FUNCTION set_outbox_statistics(part text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %I ALTER COLUMN tx SET STATISTICS 10, ALTER COLUMN id SET STATISTICS 10, '
        'ALTER COLUMN topic SET STATISTICS 10, ALTER COLUMN key SET STATISTICS 10, '
        'ALTER COLUMN event_type SET STATISTICS 10, ALTER COLUMN occurred_at SET STATISTICS 10, '
        'ALTER COLUMN event_id SET STATISTICS 0, ALTER COLUMN traceparent SET STATISTICS 0, '
        'ALTER COLUMN body SET STATISTICS 0', part);
END $$;
REVOKE ALL ON FUNCTION set_outbox_statistics(text) FROM PUBLIC;
-- Of those that are there, too: to set it of the whole sets it of each.
SELECT set_outbox_statistics('outbox');

-- Makes partitions until those for `ahead` times `width` transactions to come are there; tells how many it made.
-- width: transactions a partition; NULL: as many as a day has, by the rate since another one was made.
CREATE OR REPLACE FUNCTION make_outbox_partitions(ahead integer, width bigint) RETURNS bigint
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
        PERFORM set_outbox_statistics('outbox_' || lower);
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
