-- A network that operators have paused: nothing new is sent there, what was sent is settled. Who paused it is in
-- operator_action.
CREATE TABLE network_pause (
    network_id text PRIMARY KEY,
    paused_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator   text NOT NULL,
    why        text NOT NULL
);

-- Whom the console lets in with a password. Whoever comes from an identity provider has no row.
CREATE TABLE console_user (
    name          text PRIMARY KEY,
    role          text NOT NULL CONSTRAINT console_user_role CHECK (role IN ('viewer', 'operator', 'approver')),
    password_hash text NOT NULL CONSTRAINT console_user_argon2 CHECK (password_hash LIKE '$argon2id$%'),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at   timestamptz
);
-- Two spellings would be two people to the eye, and one to the rule of two people.
CREATE UNIQUE INDEX console_user_spelling ON console_user (lower(name));

-- Who is signed in. Only hashes of what browsers hold are kept.
CREATE TABLE console_session (
    token_hash bytea PRIMARY KEY CONSTRAINT console_session_sha256 CHECK (octet_length(token_hash) = 32),
    name       text NOT NULL,
    role       text NOT NULL CONSTRAINT console_session_role CHECK (role IN ('viewer', 'operator', 'approver')),
    is_local   boolean NOT NULL,         -- a console_user: ends with it
    began_at   timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
);
CREATE INDEX console_session_seen ON console_session (seen_at);
CREATE INDEX console_session_name ON console_session (name);

-- Every attempt to sign in, and every sign-out. It also bounds how often somebody may try.
CREATE TABLE console_sign_in (
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    name    text NOT NULL,               -- as it was given, 64 characters at most
    peer    text NOT NULL,               -- a keyed hash of where it came from
    outcome text NOT NULL CONSTRAINT console_sign_in_outcome CHECK (outcome IN (
        'let_in', 'refused', 'too_many', 'signed_out'))
);
CREATE INDEX console_sign_in_name ON console_sign_in (lower(name), at);
CREATE INDEX console_sign_in_peer ON console_sign_in (peer, at);
CREATE TRIGGER console_sign_in_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON console_sign_in
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
