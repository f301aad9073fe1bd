-- The disclosure log: every use of a consent is one entry of a hash chain. One sequencer writes it, behind the outbox.

-- The chain holds hashes alone and is never changed. What is told of a use stands beside it, salted, and can be
-- destroyed when its time is over: the chain stays verifiable. What is hashed how: gateway/disclosure/rules/entry.py.
CREATE TABLE disclosure_entry (
    seq          bigint PRIMARY KEY CONSTRAINT disclosure_entry_seq CHECK (seq > 0),
    source_tx    bigint NOT NULL,            -- the event of the outbox that this is the use of
    source_id    bigint NOT NULL,
    content_hash bytea NOT NULL CONSTRAINT disclosure_entry_content_hash CHECK (length(content_hash) = 32),
    entry_hash   bytea NOT NULL CONSTRAINT disclosure_entry_hash CHECK (length(entry_hash) = 32),
    CONSTRAINT disclosure_entry_source UNIQUE (source_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disclosure_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE disclosure_content (
    seq             bigint PRIMARY KEY,
    salt            bytea NOT NULL,
    kind            text NOT NULL,
    customer_id     text,
    partner_id      text,
    consent_id      text,
    consent_version integer,
    recipient       text NOT NULL,
    purpose         text NOT NULL,
    legal_basis     text NOT NULL,
    what            text NOT NULL,
    reference       text NOT NULL,
    occurred_at     timestamptz NOT NULL
);
CREATE INDEX disclosure_content_customer ON disclosure_content (customer_id, occurred_at);
CREATE INDEX disclosure_content_consent ON disclosure_content (partner_id, consent_id, occurred_at);
-- Rows are destroyed by the function below; none is ever changed.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON disclosure_content
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Hashes of 256 entries each, inside of a root's tree: a proof needs no more than one such block's entries.
CREATE TABLE disclosure_block (
    first_seq bigint PRIMARY KEY,
    hash      bytea NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disclosure_block
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What is published: the Merkle root over the entries of a period, signed.
CREATE TABLE disclosure_root (
    number    bigint PRIMARY KEY CONSTRAINT disclosure_root_number CHECK (number > 0),
    first_seq bigint NOT NULL UNIQUE,
    last_seq  bigint NOT NULL,
    statement text NOT NULL,                 -- JWS, compact
    closed_at timestamptz NOT NULL,
    CONSTRAINT disclosure_root_range CHECK (last_seq >= first_seq)
);
CREATE INDEX disclosure_root_last ON disclosure_root (last_seq);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disclosure_root
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Where the chain ends, and how far it has read the outbox. Whoever appends moves this row, and only from where it
-- was: of two sequencers one moves it, the other finds that it has moved.
CREATE TABLE disclosure_head (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tx            xid8 NOT NULL,
    id            bigint NOT NULL,
    seq           bigint NOT NULL,
    entry_hash    bytea NOT NULL,
    root_number   bigint NOT NULL,
    root_hash     bytea NOT NULL,            -- of the last root's statement
    root_seq      bigint NOT NULL,           -- the last entry that a root covers
    period_start  timestamptz,               -- of the first entry that no root covers yet
    frontier      bytea NOT NULL             -- of the tree over those: the hashes of its complete parts, the largest first
);
INSERT INTO disclosure_head (tx, id, seq, entry_hash, root_number, root_hash, root_seq, frontier)
VALUES ('0', 0, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'), 0, '');

-- Everybody who reads the outbox in its order, and how far each has come. What none of them has yet to read may be
-- forgotten. A new reader adds its cursor here.
CREATE VIEW outbox_reader AS
    SELECT 'relay' AS reader, tx, id FROM outbox_cursor
    UNION ALL
    SELECT 'disclosure', tx, id FROM disclosure_head;

CREATE OR REPLACE FUNCTION purge_relayed_events(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH first AS MATERIALIZED (
        SELECT o.tx, o.id, o.occurred_at < before AS old
        FROM outbox o, (SELECT tx, id FROM outbox_reader ORDER BY outbox_reader.tx, outbox_reader.id LIMIT 1) c
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

-- What was destroyed, by which rule; the digest is SHA-256 over the content hashes that stay, in their order.
CREATE TABLE disclosure_destruction (
    first_seq    bigint PRIMARY KEY,
    last_seq     bigint NOT NULL,
    rule         text NOT NULL,
    before       timestamptz NOT NULL,
    digest       bytea NOT NULL,
    destroyed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    login        text NOT NULL DEFAULT session_user,
    CONSTRAINT disclosure_destruction_range CHECK (last_seq >= first_seq)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disclosure_destruction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Contents whose time is over, from the beginning on, up to the first that is younger. Customers may see three years:
-- whoever calls cannot ask for less.
CREATE FUNCTION destroy_disclosures(asked timestamptz, at_most integer) RETURNS SETOF disclosure_destruction
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
    DELETE FROM disclosure_content WHERE seq BETWEEN begin_seq AND end_seq;
    RETURN QUERY
    INSERT INTO disclosure_destruction (first_seq, last_seq, rule, before, digest)
    SELECT begin_seq, end_seq, 'retention of three years', limit_at,
           sha256(string_agg(e.content_hash, ''::bytea ORDER BY e.seq))
    FROM disclosure_entry e WHERE e.seq BETWEEN begin_seq AND end_seq
    RETURNING *;
END $$;
REVOKE ALL ON FUNCTION destroy_disclosures(timestamptz, integer) FROM PUBLIC;
