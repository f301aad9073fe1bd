-- name: open_break
SELECT version, break_kind FROM clearing_record c
WHERE network_id = $1 AND cycle_id = $2 AND record_no = $3 AND break_kind IS NOT NULL AND NOT EXISTS (
    SELECT FROM break_resolution r
    WHERE (r.network_id, r.cycle_id, r.record_no, r.version, r.break_kind)
        = (c.network_id, c.cycle_id, c.record_no, c.version, c.break_kind))

-- name: resolve
INSERT INTO break_resolution (network_id, cycle_id, record_no, version, break_kind, resolution, why, resolved_by)
SELECT network_id, cycle_id, record_no, version, break_kind, $6, $7, $8 FROM clearing_record
WHERE network_id = $1 AND cycle_id = $2 AND record_no = $3 AND version = $4 AND break_kind = $5
ON CONFLICT (network_id, cycle_id, record_no, version, break_kind) DO NOTHING
RETURNING record_no
