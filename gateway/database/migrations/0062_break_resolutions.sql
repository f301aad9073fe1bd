-- That two people looked at a break and what they did about it. It books nothing, and it is of the record as it stood:
-- one that the network corrects, or that does not fit in another way, is another break.
CREATE TABLE break_resolution (
    network_id  text NOT NULL,
    cycle_id    text NOT NULL,
    record_no   integer NOT NULL,
    version     integer NOT NULL,
    break_kind  text NOT NULL,
    resolution  text NOT NULL CONSTRAINT break_resolution_kind CHECK (resolution IN (
        'settled_elsewhere', 'disputed', 'written_off')),
    why         text NOT NULL,
    resolved_by text NOT NULL,
    resolved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (network_id, cycle_id, record_no, version, break_kind)
);
CREATE INDEX break_resolution_at ON break_resolution (resolved_at);
CREATE TRIGGER break_resolution_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON break_resolution
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The same as before, but for breaks that are resolved.
CREATE OR REPLACE VIEW operating_state AS
    WITH place AS MATERIALIZED (SELECT tx, id FROM outbox_cursor),
    unread AS MATERIALIZED (
        SELECT o.occurred_at FROM outbox o
        WHERE (o.tx, o.id) > ((SELECT tx FROM place), (SELECT id FROM place)) AND o.tx >= (SELECT tx FROM place)
        ORDER BY o.tx, o.id LIMIT 100000
    )
    SELECT 'outbox_rows' AS gauge, ''::text AS label, ''::text AS other, count(*)::double precision AS value FROM unread
    UNION ALL
    SELECT 'outbox_oldest_seconds', '', '',
           coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::double precision FROM unread
    UNION ALL
    SELECT 'outbox_parked_rows', '', '', count(*)::double precision
    FROM (SELECT 1 FROM outbox_parked LIMIT 100000) AS parked
    UNION ALL
    SELECT 'breaks_open', network_id || '/' || break_kind,
           CASE WHEN imported_at > clock_timestamp() - interval '1 day' THEN '<1d'
                WHEN imported_at > clock_timestamp() - interval '7 days' THEN '1-7d'
                WHEN imported_at > clock_timestamp() - interval '30 days' THEN '7-30d'
                ELSE '30d+' END, count(*)
    FROM clearing_record c WHERE break_kind IS NOT NULL AND NOT EXISTS (
        SELECT FROM break_resolution r
        WHERE (r.network_id, r.cycle_id, r.record_no, r.version, r.break_kind)
            = (c.network_id, c.cycle_id, c.record_no, c.version, c.break_kind))
    GROUP BY 2, 3
    UNION ALL
    SELECT 'clearing_age_seconds', n.network_id, '', extract(epoch FROM clock_timestamp() - c.imported_at)
    FROM network_status n CROSS JOIN LATERAL (
        SELECT imported_at FROM clearing_record r WHERE r.network_id = n.network_id
        ORDER BY r.cycle_id DESC, r.record_no DESC LIMIT 1
    ) c
    UNION ALL
    SELECT 'follow_ups_open', network_id, 'reversal', count(*) FROM reversal WHERE closed_at IS NULL GROUP BY network_id
    UNION ALL
    SELECT 'follow_ups_open', network_id, 'inquiry', count(*) FROM inquiry WHERE closed_at IS NULL GROUP BY network_id
    UNION ALL
    SELECT 'exports_open', '', '', count(*) FROM portability_export WHERE state IN ('waiting', 'sending')
    UNION ALL
    SELECT 'export_oldest_seconds', '', '', coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)
    FROM portability_export WHERE state IN ('waiting', 'sending')
    UNION ALL
    SELECT 'scheduled_overdue_seconds', '', '',
           greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(look_at)), 0))
    FROM scheduled_order WHERE closed_at IS NULL
    UNION ALL
    -- Of each active partner the key that ends last: a newer one takes an older one's place.
    SELECT 'partners_keys_ending', CASE WHEN ends < clock_timestamp() + interval '7 days' THEN '7d' ELSE '30d' END, '',
           count(*)
    FROM (
        SELECT max(coalesce(k.valid_until, 'infinity')) AS ends FROM partner_key k JOIN partner p USING (partner_id)
        WHERE p.active AND k.disabled_at IS NULL GROUP BY partner_id
    ) last WHERE ends < clock_timestamp() + interval '30 days' GROUP BY 2;
