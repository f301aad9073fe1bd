-- Events are kept for sharing only where the stage runs: it says so itself as it starts, and operators where it is gone.
ALTER TABLE sharing_place ADD COLUMN followed boolean NOT NULL DEFAULT false;
UPDATE sharing_place SET followed = EXISTS (SELECT FROM share_holder);

CREATE OR REPLACE VIEW outbox_reader AS
    SELECT 'relay' AS reader, tx, id FROM outbox_cursor
    UNION ALL
    SELECT 'disclosure', tx, id FROM disclosure_head
    UNION ALL
    SELECT 'sharing', tx, id FROM sharing_place WHERE followed;
