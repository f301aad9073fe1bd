-- An affiliate that has not confirmed that it erased is reminded where somebody asks for it: the notice is sent again.
ALTER TABLE share_holder
    ADD COLUMN remind_at timestamptz,                 -- since when somebody waits for it; not once it was sent
    ADD COLUMN reminders integer NOT NULL DEFAULT 0,  -- how many were sent
    ADD CONSTRAINT share_holder_reminded CHECK (notice_id IS NOT NULL OR (remind_at IS NULL AND reminders = 0)) NOT VALID;
CREATE INDEX IF NOT EXISTS share_holder_remind ON share_holder (remind_at) WHERE remind_at IS NOT NULL;
