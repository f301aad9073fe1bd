-- An entry of the disclosure log is written as one row: what is told of its use, with what the chain holds of it. Once
-- what is told is destroyed, that stands in disclosure_entry, where it stays for ever. Rows of releases before this one
-- lack it: theirs stands there from the beginning on.
ALTER TABLE disclosure_content
    ADD COLUMN source_tx bigint,
    ADD COLUMN source_id bigint,
    ADD COLUMN content_hash bytea,
    ADD COLUMN entry_hash bytea,
    ADD CONSTRAINT disclosure_content_entry CHECK (
        num_nulls(source_tx, source_id, content_hash, entry_hash) IN (0, 4) AND seq > 0
        AND length(content_hash) = 32 AND length(entry_hash) = 32) NOT VALID;
ALTER TABLE disclosure_content
    ALTER COLUMN source_tx SET STATISTICS 0,
    ALTER COLUMN source_id SET STATISTICS 0,
    ALTER COLUMN content_hash SET STATISTICS 0,
    ALTER COLUMN entry_hash SET STATISTICS 0;

-- What keeps an event from being an entry twice is the head, which moves past it. An index for that was a seventh of
-- what writing an entry cost the server; that no event is there twice, verification tells.
ALTER TABLE disclosure_entry DROP CONSTRAINT disclosure_entry_source;

-- The chain, wherever its rows stand.
CREATE VIEW disclosure_link AS
    SELECT seq, source_tx, source_id, content_hash, entry_hash FROM disclosure_content WHERE entry_hash IS NOT NULL
    UNION ALL
    SELECT seq, source_tx, source_id, content_hash, entry_hash FROM disclosure_entry;

-- What is told, with what the chain holds of it.
CREATE VIEW disclosure_told AS
    SELECT c.seq, coalesce(c.source_tx, e.source_tx) AS source_tx, coalesce(c.source_id, e.source_id) AS source_id,
           coalesce(c.content_hash, e.content_hash) AS content_hash, coalesce(c.entry_hash, e.entry_hash) AS entry_hash,
           c.salt, c.kind, c.customer_id, c.partner_id, c.consent_id, c.consent_version, c.recipient, c.purpose,
           c.legal_basis, c.what, c.reference, c.occurred_at
    FROM disclosure_content c
    -- By key, one row each, and only where it is needed.
    LEFT JOIN LATERAL (SELECT * FROM disclosure_entry WHERE seq = c.seq AND c.entry_hash IS NULL OFFSET 0) e ON true
    WHERE c.entry_hash IS NOT NULL OR e.seq IS NOT NULL;

CREATE OR REPLACE FUNCTION destroy_disclosures(asked timestamptz, at_most integer) RETURNS SETOF disclosure_destruction
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    limit_at timestamptz := least(asked, now() - interval '3 years');
    begin_seq bigint;
    end_seq bigint;
BEGIN
    -- One at a time: the second finds what the first has left.
    PERFORM pg_advisory_xact_lock(7235430147158045555);
    SELECT coalesce(max(d.last_seq), 0) + 1 INTO begin_seq FROM disclosure_destruction d;
    SELECT max(c.seq) INTO end_seq FROM (
        SELECT f.seq, bool_and(f.occurred_at < limit_at) OVER (ORDER BY f.seq) AS old
        FROM (SELECT d.seq, d.occurred_at FROM disclosure_content d
              WHERE d.seq >= begin_seq ORDER BY d.seq LIMIT at_most) f
    ) c WHERE c.old;
    IF end_seq IS NULL THEN
        RETURN;
    END IF;
    -- What the chain holds goes nowhere but to where it stays.
    WITH gone AS (
        DELETE FROM disclosure_content c WHERE c.seq BETWEEN begin_seq AND end_seq
        RETURNING c.seq, c.source_tx, c.source_id, c.content_hash, c.entry_hash
    )
    INSERT INTO disclosure_entry (seq, source_tx, source_id, content_hash, entry_hash)
    SELECT g.seq, g.source_tx, g.source_id, g.content_hash, g.entry_hash FROM gone g
    WHERE g.entry_hash IS NOT NULL ORDER BY g.seq;
    RETURN QUERY
    INSERT INTO disclosure_destruction (first_seq, last_seq, rule, before, digest)
    SELECT begin_seq, end_seq, 'retention of three years', limit_at,
           sha256(string_agg(e.content_hash, ''::bytea ORDER BY e.seq))
    FROM disclosure_entry e WHERE e.seq BETWEEN begin_seq AND end_seq
    RETURNING *;
END $$;
