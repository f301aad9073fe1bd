-- name: known
SELECT cluster_id FROM kafka_cluster

-- name: note
INSERT INTO kafka_cluster (cluster_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: move
INSERT INTO kafka_cluster (cluster_id) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET cluster_id = excluded.cluster_id, noted_at = clock_timestamp()
