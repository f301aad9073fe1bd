-- Whether those who move the relay's cursor and the log's head now read bundles: processes of the release before pass
-- over them, or publish them as they stand. Who reads them says so with each move, and a move that does not say it takes
-- it back. So sharing tells in bundles only while nobody else is at work.
ALTER TABLE outbox_cursor ADD COLUMN reads_bundles boolean NOT NULL DEFAULT false;
ALTER TABLE disclosure_head ADD COLUMN reads_bundles boolean NOT NULL DEFAULT false;

CREATE FUNCTION bundles_unsaid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.reads_bundles := false;
    RETURN NEW;
END $$;
CREATE FUNCTION bundles_said() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.reads_bundles := true;
    RETURN NEW;
END $$;
-- In the order of their names; the second only where the statement names the column.
CREATE TRIGGER bundles_1_unsaid BEFORE UPDATE ON outbox_cursor FOR EACH ROW EXECUTE FUNCTION bundles_unsaid();
CREATE TRIGGER bundles_2_said BEFORE UPDATE OF reads_bundles ON outbox_cursor
    FOR EACH ROW EXECUTE FUNCTION bundles_said();
CREATE TRIGGER bundles_1_unsaid BEFORE UPDATE ON disclosure_head FOR EACH ROW EXECUTE FUNCTION bundles_unsaid();
CREATE TRIGGER bundles_2_said BEFORE UPDATE OF reads_bundles ON disclosure_head
    FOR EACH ROW EXECUTE FUNCTION bundles_said();

CREATE VIEW bundles_read AS
    SELECT c.reads_bundles AND h.reads_bundles AS by_all FROM outbox_cursor c, disclosure_head h;
