-- Events whose topic is missing, or closed to us: set aside, so that nobody else's events wait for them. Later events of the same topic follow them, for order holds within a topic.
CREATE TABLE outbox_parked (
    tx        xid8 NOT NULL,
    id        bigint NOT NULL,
    topic     text NOT NULL,
    reason    text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tx, id)
);
CREATE INDEX outbox_parked_topic ON outbox_parked (topic, tx, id);
