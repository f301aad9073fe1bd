-- Two names are two people only where one and the same has given them: an identity provider, or this installation, which
-- has no identity here. A provider may let somebody choose their name; issuer and subject, with a space between them, it
-- gives to nobody else.
ALTER TABLE console_session ADD COLUMN identity text;
ALTER TABLE operator_proposal ADD COLUMN identity text;
ALTER TABLE operator_decision ADD COLUMN identity text;

CREATE OR REPLACE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.decision = 'approved' AND EXISTS (
        SELECT FROM operator_proposal p
        WHERE p.proposal_id = NEW.proposal_id
          AND (lower(p.operator) = lower(NEW.operator) OR p.expires_at <= clock_timestamp()
               OR p.identity = NEW.identity
               OR split_part(p.identity, ' ', 1) IS DISTINCT FROM split_part(NEW.identity, ' ', 1))
    ) THEN
        RAISE EXCEPTION 'a proposal is approved by another operator, before it expires' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
