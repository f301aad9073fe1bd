-- Whose login wrote a row, and when, is the database's word: what the writer gives of these is not kept.
CREATE FUNCTION stamp_operator_action() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.login := session_user;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER operator_action_stamp BEFORE INSERT ON operator_action
    FOR EACH ROW EXECUTE FUNCTION stamp_operator_action();

CREATE FUNCTION stamp_operator_proposal() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.login := session_user;
    NEW.proposed_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER operator_proposal_stamp BEFORE INSERT ON operator_proposal
    FOR EACH ROW EXECUTE FUNCTION stamp_operator_proposal();

CREATE FUNCTION stamp_operator_decision() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.login := session_user;
    NEW.decided_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER operator_decision_stamp BEFORE INSERT ON operator_decision
    FOR EACH ROW EXECUTE FUNCTION stamp_operator_decision();
