-- Used proofs are forgotten by their places: they were looked up again by their key, one by one, for two thirds of the cost.
-- A locked row keeps its place, and nothing changes one.
CREATE OR REPLACE FUNCTION purge_used_assertions(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (
        DELETE FROM used_assertion WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM used_assertion
            WHERE keep_until < least(before, now())
            ORDER BY keep_until
            LIMIT at_most
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
