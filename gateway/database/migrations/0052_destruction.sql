-- A customer who has asked for nothing for a year: what is held of their transmission requests goes. Six months of
-- silence have stopped them before.

-- Ids of requests of which nothing else is kept: they stay used for ever.
CREATE TABLE portability_request_gone (
    partner_id text NOT NULL,
    request_id text NOT NULL,
    digest     bytea NOT NULL,              -- SHA-256 of the request as it was signed
    reference  text NOT NULL,               -- topic, partition and offset of the record
    PRIMARY KEY (partner_id, request_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON portability_request_gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Evidence of destruction: what kind of rows, how many, by which rule; nothing that names anybody.
CREATE TABLE data_destruction (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,
    rows         bigint NOT NULL CONSTRAINT data_destruction_rows CHECK (rows > 0),
    rule         text NOT NULL,
    before       timestamptz NOT NULL,
    digest       bytea,                     -- of requests: SHA-256 over their digests, by partner and id
    destroyed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    login        text NOT NULL DEFAULT session_user
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON data_destruction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE INDEX portability_request_silent ON portability_request (accessed_at) WHERE status <> 'active';
CREATE INDEX portability_access_silent ON portability_access (accessed_at);

-- A batch of what nobody has asked about for a year. An active request is stopped first, and an export on its way ends
-- first: both are told. Whoever calls cannot ask for less than the year.
CREATE FUNCTION destroy_silent_portability(asked timestamptz, at_most integer) RETURNS SETOF data_destruction
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH rule AS MATERIALIZED (
        SELECT least(asked, now() - interval '1 year') AS before
    ), silent AS MATERIALIZED (
        SELECT r.partner_id, r.request_id, r.digest, r.reference
        FROM portability_request r
        WHERE r.accessed_at <= (SELECT before FROM rule) AND r.status <> 'active'
          AND NOT EXISTS (
              SELECT FROM portability_export e
              WHERE (e.partner_id, e.request_id) = (r.partner_id, r.request_id) AND e.state IN ('waiting', 'sending'))
        ORDER BY r.accessed_at LIMIT at_most
        FOR UPDATE OF r SKIP LOCKED
    ), kept AS (
        INSERT INTO portability_request_gone (partner_id, request_id, digest, reference)
        SELECT partner_id, request_id, digest, reference FROM silent
    ), requests AS (
        DELETE FROM portability_request r USING silent s
        WHERE (r.partner_id, r.request_id) = (s.partner_id, s.request_id)
    ), exports AS (
        DELETE FROM portability_export e USING silent s
        WHERE (e.partner_id, e.request_id) = (s.partner_id, s.request_id)
        RETURNING 1
    ), unasked AS MATERIALIZED (
        SELECT a.partner_id, a.consent_id, a.org_code FROM portability_access a
        WHERE a.accessed_at <= (SELECT before FROM rule)
        ORDER BY a.accessed_at LIMIT at_most
        FOR UPDATE OF a SKIP LOCKED
    ), accesses AS (
        DELETE FROM portability_access a USING unasked u
        WHERE (a.partner_id, a.consent_id, a.org_code) = (u.partner_id, u.consent_id, u.org_code)
        RETURNING 1
    ), gone (kind, rows, digest) AS (
        SELECT 'transmission requests', count(*),
               sha256(string_agg(digest, ''::bytea ORDER BY partner_id COLLATE "C", request_id COLLATE "C"))
        FROM silent
        UNION ALL
        SELECT 'exports of transmission requests', count(*), NULL FROM exports
        UNION ALL
        SELECT 'accesses through the API', count(*), NULL FROM accesses
    )
    INSERT INTO data_destruction (kind, rows, rule, before, digest)
    SELECT kind, rows, 'a year without access', (SELECT before FROM rule), digest FROM gone WHERE rows > 0
    RETURNING *
$$;
REVOKE ALL ON FUNCTION destroy_silent_portability(timestamptz, integer) FROM PUBLIC;
