-- Every version of a consent's terms, as the partner sent them, in the canonical form whose digest the customer signs;
-- and who authenticated it. A version's terms never change; its proof is added once, when the customer gives it.
CREATE TABLE consent_version (
    partner_id       text NOT NULL,
    consent_id       text NOT NULL,
    version          integer NOT NULL,
    terms            text NOT NULL,
    digest           text NOT NULL
        CONSTRAINT consent_version_digest CHECK (digest = encode(sha256(convert_to(terms, 'UTF8')), 'hex')),
    created_at       timestamptz NOT NULL,
    issuer           text,
    subject          text,
    jti              text,
    level            integer,
    authenticated_at timestamptz,
    PRIMARY KEY (partner_id, consent_id, version),
    CONSTRAINT consent_version_proof CHECK (num_nulls(issuer, subject, jti, level, authenticated_at) IN (0, 5))
);

-- What was asked of a consent and what became of it: an id's second use has no effect, and done ones are its history.
CREATE TABLE consent_command (
    partner_id  text NOT NULL,
    consent_id  text NOT NULL,
    command_id  text NOT NULL,
    command     text NOT NULL,
    body_digest bytea NOT NULL,          -- SHA-256 of the record's value
    outcome     text NOT NULL CONSTRAINT consent_command_outcome CHECK (outcome IN ('done', 'unchanged', 'refused')),
    change      integer,                 -- which of the consent's changes it made
    status      text,                    -- the consent's afterwards; none where there is no such consent
    version     integer,
    reason_code text,
    reason_text text,
    actor       text NOT NULL,
    reference   text NOT NULL,
    handled_at  timestamptz NOT NULL,
    PRIMARY KEY (partner_id, consent_id, command_id)
);

ALTER TABLE consent
    ADD COLUMN changes     integer NOT NULL DEFAULT 0,
    ADD COLUMN valid_until timestamptz;
UPDATE consent SET valid_until = (terms ->> 'valid_until')::timestamptz;
ALTER TABLE consent ALTER COLUMN valid_until SET NOT NULL;

-- Consents that time alone will end; looked through every second.
CREATE INDEX consent_open_end ON consent (valid_until) WHERE status IN ('AWAU', 'AUTH', 'SUSP');
-- Consents that stopped permitting payments a moment ago: compared with what was sent.
CREATE INDEX consent_stopped ON consent (status_changed_at) WHERE status IN ('SUSP', 'CANC', 'EXPD');

-- Versions that were stored before this table was made. jsonb's text has blanks and another order: the canonical form of
-- what is there is made of its members, in the C collation's order, which is that of RFC 8785 for ASCII names.
CREATE FUNCTION canonical_json(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE jsonb_typeof(value)
        WHEN 'object' THEN '{' || coalesce((
            SELECT string_agg(to_json(e.key)::text || ':' || canonical_json(e.value), ',' ORDER BY e.key COLLATE "C")
            FROM jsonb_each(value) AS e), '') || '}'
        WHEN 'array' THEN '[' || coalesce((
            SELECT string_agg(canonical_json(e.value), ',' ORDER BY e.ordinality)
            FROM jsonb_array_elements(value) WITH ORDINALITY AS e), '') || ']'
        ELSE value::text
    END
$$;
INSERT INTO consent_version (partner_id, consent_id, version, terms, digest, created_at)
SELECT partner_id, consent_id, version, t, encode(sha256(convert_to(t, 'UTF8')), 'hex'), created_at
FROM consent, canonical_json(terms) AS t;
DROP FUNCTION canonical_json(jsonb);
