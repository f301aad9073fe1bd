-- Who changed what by hand, and why. An action is written down before it is done, so that nothing is done unrecorded; how
-- it ended is a second row. `operator` is who the person says to be, `login` whom the database let in.
CREATE TABLE operator_action (
    action_id uuid NOT NULL,
    phase     text NOT NULL CONSTRAINT operator_action_phase CHECK (phase IN ('begun', 'done', 'proposed', 'failed')),
    operator  text NOT NULL,
    login     text NOT NULL DEFAULT session_user,
    command   text NOT NULL,
    subject   text NOT NULL,             -- whom or what it concerns: an id, never a card, a key or a name
    why       text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (action_id, phase)
);
CREATE INDEX operator_action_at ON operator_action (at);
CREATE TRIGGER operator_action_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What gives somebody a right may need two people: one proposes, another approves.
CREATE TABLE operator_proposal (
    proposal_id uuid PRIMARY KEY,
    kind        text NOT NULL,
    subject     text NOT NULL,
    payload     jsonb NOT NULL,          -- what will be written; public data alone
    operator    text NOT NULL,
    login       text NOT NULL DEFAULT session_user,
    why         text NOT NULL,
    proposed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL
);
CREATE TRIGGER operator_proposal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_proposal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE operator_decision (
    proposal_id uuid PRIMARY KEY REFERENCES operator_proposal,
    decision    text NOT NULL CONSTRAINT operator_decision_decision CHECK (decision IN ('approved', 'rejected')),
    operator    text NOT NULL,
    login       text NOT NULL DEFAULT session_user,
    why         text NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER operator_decision_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_decision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The second pair of eyes is held to here too: whoever writes past the program cannot approve what they proposed.
CREATE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.decision = 'approved' AND EXISTS (
        SELECT FROM operator_proposal p
        WHERE p.proposal_id = NEW.proposal_id AND (p.operator = NEW.operator OR p.expires_at <= clock_timestamp())
    ) THEN
        RAISE EXCEPTION 'a proposal is approved by another operator, before it expires' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operator_decision_by_another BEFORE INSERT ON operator_decision
    FOR EACH ROW EXECUTE FUNCTION refuse_own_approval();
