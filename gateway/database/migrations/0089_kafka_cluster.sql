-- Which Kafka this database belongs to: whoever starts first notes it. With another one's, two gateways would be members of
-- the same groups, and each would take and commit away what only the other can do.
CREATE TABLE kafka_cluster (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    cluster_id text NOT NULL CHECK (length(cluster_id) BETWEEN 1 AND 200),
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
