-- name: known
SELECT cluster_id FROM kafka_cluster

-- name: note
INSERT INTO kafka_cluster (cluster_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: move
INSERT INTO kafka_cluster AS here (cluster_id, moved_at) VALUES ($1, clock_timestamp())
ON CONFLICT (one) DO UPDATE SET cluster_id = excluded.cluster_id, noted_at = excluded.moved_at, moved_at = excluded.moved_at
WHERE here.cluster_id <> excluded.cluster_id
