-- name: noted
SELECT cluster_id, noted_at FROM kafka_cluster
