-- Which trust policy counts (identity providers, levels, exemptions): the last row. A process that was given another one
-- does not start; one that runs takes another up once it stands here.
CREATE TABLE trust_policy (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trust_policy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
