-- The table is read while it goes on growing: a statement of its own.
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_first_bound;
