-- A place in Kafka (topic, partition, offset) is another record's once its topic was made again, or the gateway has moved
-- to another Kafka: what was refused or answered there before must be told from what can still come again.
ALTER TABLE kafka_cluster ADD COLUMN moved_at timestamptz;
ALTER TABLE cancellation_answer ADD COLUMN answered_at timestamptz NOT NULL DEFAULT now();
