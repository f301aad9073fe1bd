-- What operators' gauges are read from: one row a series. Each part is bounded by an index or by a limit, so that it
-- costs the same however much there is.
CREATE VIEW operating_state AS
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
    FROM clearing_record WHERE break_kind IS NOT NULL GROUP BY 2, 3
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
