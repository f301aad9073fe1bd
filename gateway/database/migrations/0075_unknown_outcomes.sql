-- An operator's action whose outcome nobody has answered is unknown, and not failed.
ALTER TABLE operator_action
    DROP CONSTRAINT operator_action_phase,
    ADD CONSTRAINT operator_action_phase CHECK (phase IN ('begun', 'done', 'proposed', 'failed', 'unknown'));
