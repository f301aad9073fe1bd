-- name: examine
-- One look at everything that a process relies on. $1..$3: what the role must be able to do (table, column or none, right).
SELECT current_setting('server_version_num')::integer AS server_version,
       pg_is_in_recovery() AS in_recovery,
       current_setting('default_transaction_read_only')::boolean AS read_only,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('fsync')::boolean AS fsync,
       current_setting('search_path') AS search_path,
       current_setting('server_encoding') AS encoding,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout') AS idle_ms,
       pg_backend_pid() AS backend_pid,
       clock_timestamp() AS clock,
       current_user::text AS who,
       r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication AS is_powerful,
       EXISTS (
           SELECT FROM pg_class c
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND pg_has_role(current_user, c.relowner, 'MEMBER')
       ) AS owns_tables,
       ARRAY(
           SELECT n.right_ || ' on ' || n.table_ || coalesce(' (' || n.column_ || ')', '')
           FROM unnest($1::text[], $2::text[], $3::text[]) AS n (table_, column_, right_)
           WHERE NOT coalesce(CASE
               WHEN to_regclass('public.' || n.table_) IS NULL THEN false
               WHEN n.column_ IS NULL THEN has_table_privilege('public.' || n.table_, n.right_)
               ELSE has_column_privilege('public.' || n.table_, n.column_, n.right_)
           END, false)
       ) AS missing,
       ARRAY(
           SELECT t.name FROM unnest($4::text[]) AS t (name)
           WHERE to_regclass('public.' || t.name) IS NOT NULL
             AND has_table_privilege('public.' || t.name, 'UPDATE, DELETE, TRUNCATE')
       ) AS can_rewrite
FROM pg_roles r WHERE r.rolname = current_user

-- name: places_outbox_cursor
SELECT tx > pg_snapshot_xmax(pg_current_snapshot()) FROM outbox_cursor

-- name: places_disclosure_head
SELECT tx > pg_snapshot_xmax(pg_current_snapshot()) FROM disclosure_head

-- name: places_sharing_place
SELECT tx > pg_snapshot_xmax(pg_current_snapshot()) FROM sharing_place

-- name: migrations
SELECT name, digest FROM schema_migration ORDER BY name
