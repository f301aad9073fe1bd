-- One person may be known by a name in two spellings: neither approves what the other proposed.
CREATE OR REPLACE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.decision = 'approved' AND EXISTS (
        SELECT FROM operator_proposal p
        WHERE p.proposal_id = NEW.proposal_id
          AND (lower(p.operator) = lower(NEW.operator) OR p.expires_at <= clock_timestamp())
    ) THEN
        RAISE EXCEPTION 'a proposal is approved by another operator, before it expires' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
