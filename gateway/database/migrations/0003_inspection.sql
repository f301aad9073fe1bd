-- For people who look something up. Both tables grow in the order of these times, so a block-range index finds a moment's
-- rows while costing an insert next to nothing; an index by payment would cost every event a random page.
CREATE INDEX outbox_occurred_at ON outbox USING brin (occurred_at) WITH (autosummarize = on);
CREATE INDEX clearing_imported_at ON clearing_record USING brin (imported_at) WITH (autosummarize = on);
