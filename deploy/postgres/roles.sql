-- Made from gateway/database/roles.py by `mypay migrate roles --write`. Do not edit.
-- In the gateway's database, as a superuser; safe to run again. Then give each role a password of
-- its own (psql: \password mypay_relay), or let it in by certificate; run `mypay migrate` as mypay_owner.

DO $$
DECLARE
    name text;
    granted record;
BEGIN
    FOREACH name IN ARRAY ARRAY['mypay_owner', 'mypay_initiation', 'mypay_consents', 'mypay_execution', 'mypay_relay', 'mypay_settlement', 'mypay_schedule', 'mypay_disclosure', 'mypay_portability', 'mypay_portability_api', 'mypay_sharing', 'mypay_marketing', 'mypay_console', 'mypay_archive', 'mypay_operator', 'mypay_readonly'] LOOP
        BEGIN
            -- Passwords are not set here.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT', name);
            ELSIF EXISTS (
                SELECT FROM pg_catalog.pg_roles
                WHERE rolname = name AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
            ) THEN
                EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another session was faster
        END;
    END LOOP;
    -- Nobody who runs is a member of anything: there is no role to SET ROLE to.
    FOR granted IN
        SELECT g.rolname AS what, m.rolname AS whom
        FROM pg_catalog.pg_auth_members a
        JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
        JOIN pg_catalog.pg_roles m ON m.oid = a.member
        WHERE m.rolname = ANY (ARRAY['mypay_owner', 'mypay_initiation', 'mypay_consents', 'mypay_execution', 'mypay_relay', 'mypay_settlement', 'mypay_schedule', 'mypay_disclosure', 'mypay_portability', 'mypay_portability_api', 'mypay_sharing', 'mypay_marketing', 'mypay_console', 'mypay_archive', 'mypay_operator', 'mypay_readonly'])
    LOOP
        EXECUTE format('REVOKE %I FROM %I', granted.what, granted.whom);
    END LOOP;
END $$;

DO $$
DECLARE
    statement text;
    setting record;
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO mypay_owner, mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly', current_database());
    -- Migrations make a function's search_path and tables; nothing else needs the database itself.
    FOR statement IN
        SELECT format('ALTER TABLE public.%I OWNER TO mypay_owner', relname)
        FROM pg_catalog.pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
          AND relowner <> 'mypay_owner'::regrole
        UNION ALL
        -- An identity's sequence goes with its table.
        SELECT format('ALTER SEQUENCE public.%I OWNER TO mypay_owner', c.relname)
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relowner <> 'mypay_owner'::regrole
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i')
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO mypay_owner', oid::regprocedure)
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner <> 'mypay_owner'::regrole
    LOOP
        EXECUTE statement;
    END LOOP;
    FOR setting IN
        SELECT * FROM (VALUES
            ('mypay_initiation', 'search_path', 'public, pg_temp'),
            ('mypay_initiation', 'timezone', 'UTC'),
            ('mypay_initiation', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_initiation', 'tcp_keepalives_idle', '10'),
            ('mypay_initiation', 'tcp_keepalives_interval', '5'),
            ('mypay_initiation', 'tcp_keepalives_count', '3'),
            ('mypay_initiation', 'synchronous_commit', 'on'),
            ('mypay_consents', 'search_path', 'public, pg_temp'),
            ('mypay_consents', 'timezone', 'UTC'),
            ('mypay_consents', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_consents', 'tcp_keepalives_idle', '10'),
            ('mypay_consents', 'tcp_keepalives_interval', '5'),
            ('mypay_consents', 'tcp_keepalives_count', '3'),
            ('mypay_consents', 'synchronous_commit', 'on'),
            ('mypay_execution', 'search_path', 'public, pg_temp'),
            ('mypay_execution', 'timezone', 'UTC'),
            ('mypay_execution', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_execution', 'tcp_keepalives_idle', '10'),
            ('mypay_execution', 'tcp_keepalives_interval', '5'),
            ('mypay_execution', 'tcp_keepalives_count', '3'),
            ('mypay_execution', 'synchronous_commit', 'on'),
            ('mypay_relay', 'search_path', 'public, pg_temp'),
            ('mypay_relay', 'timezone', 'UTC'),
            ('mypay_relay', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_relay', 'tcp_keepalives_idle', '10'),
            ('mypay_relay', 'tcp_keepalives_interval', '5'),
            ('mypay_relay', 'tcp_keepalives_count', '3'),
            ('mypay_relay', 'synchronous_commit', 'on'),
            ('mypay_settlement', 'search_path', 'public, pg_temp'),
            ('mypay_settlement', 'timezone', 'UTC'),
            ('mypay_settlement', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_settlement', 'tcp_keepalives_idle', '10'),
            ('mypay_settlement', 'tcp_keepalives_interval', '5'),
            ('mypay_settlement', 'tcp_keepalives_count', '3'),
            ('mypay_settlement', 'synchronous_commit', 'on'),
            ('mypay_schedule', 'search_path', 'public, pg_temp'),
            ('mypay_schedule', 'timezone', 'UTC'),
            ('mypay_schedule', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_schedule', 'tcp_keepalives_idle', '10'),
            ('mypay_schedule', 'tcp_keepalives_interval', '5'),
            ('mypay_schedule', 'tcp_keepalives_count', '3'),
            ('mypay_schedule', 'synchronous_commit', 'on'),
            ('mypay_disclosure', 'search_path', 'public, pg_temp'),
            ('mypay_disclosure', 'timezone', 'UTC'),
            ('mypay_disclosure', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_disclosure', 'tcp_keepalives_idle', '10'),
            ('mypay_disclosure', 'tcp_keepalives_interval', '5'),
            ('mypay_disclosure', 'tcp_keepalives_count', '3'),
            ('mypay_disclosure', 'synchronous_commit', 'on'),
            ('mypay_portability', 'search_path', 'public, pg_temp'),
            ('mypay_portability', 'timezone', 'UTC'),
            ('mypay_portability', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_portability', 'tcp_keepalives_idle', '10'),
            ('mypay_portability', 'tcp_keepalives_interval', '5'),
            ('mypay_portability', 'tcp_keepalives_count', '3'),
            ('mypay_portability', 'synchronous_commit', 'on'),
            ('mypay_portability_api', 'search_path', 'public, pg_temp'),
            ('mypay_portability_api', 'timezone', 'UTC'),
            ('mypay_portability_api', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_portability_api', 'tcp_keepalives_idle', '10'),
            ('mypay_portability_api', 'tcp_keepalives_interval', '5'),
            ('mypay_portability_api', 'tcp_keepalives_count', '3'),
            ('mypay_portability_api', 'synchronous_commit', 'on'),
            ('mypay_sharing', 'search_path', 'public, pg_temp'),
            ('mypay_sharing', 'timezone', 'UTC'),
            ('mypay_sharing', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_sharing', 'tcp_keepalives_idle', '10'),
            ('mypay_sharing', 'tcp_keepalives_interval', '5'),
            ('mypay_sharing', 'tcp_keepalives_count', '3'),
            ('mypay_sharing', 'synchronous_commit', 'on'),
            ('mypay_marketing', 'search_path', 'public, pg_temp'),
            ('mypay_marketing', 'timezone', 'UTC'),
            ('mypay_marketing', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_marketing', 'tcp_keepalives_idle', '10'),
            ('mypay_marketing', 'tcp_keepalives_interval', '5'),
            ('mypay_marketing', 'tcp_keepalives_count', '3'),
            ('mypay_marketing', 'synchronous_commit', 'on'),
            ('mypay_console', 'search_path', 'public, pg_temp'),
            ('mypay_console', 'timezone', 'UTC'),
            ('mypay_console', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_console', 'tcp_keepalives_idle', '10'),
            ('mypay_console', 'tcp_keepalives_interval', '5'),
            ('mypay_console', 'tcp_keepalives_count', '3'),
            ('mypay_console', 'synchronous_commit', 'on'),
            ('mypay_archive', 'search_path', 'public, pg_temp'),
            ('mypay_archive', 'timezone', 'UTC'),
            ('mypay_archive', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_archive', 'tcp_keepalives_idle', '10'),
            ('mypay_archive', 'tcp_keepalives_interval', '5'),
            ('mypay_archive', 'tcp_keepalives_count', '3'),
            ('mypay_archive', 'synchronous_commit', 'on'),
            ('mypay_operator', 'search_path', 'public, pg_temp'),
            ('mypay_operator', 'timezone', 'UTC'),
            ('mypay_operator', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_operator', 'tcp_keepalives_idle', '10'),
            ('mypay_operator', 'tcp_keepalives_interval', '5'),
            ('mypay_operator', 'tcp_keepalives_count', '3'),
            ('mypay_operator', 'synchronous_commit', 'on'),
            ('mypay_readonly', 'search_path', 'public, pg_temp'),
            ('mypay_readonly', 'timezone', 'UTC'),
            ('mypay_readonly', 'idle_in_transaction_session_timeout', '10s'),
            ('mypay_readonly', 'tcp_keepalives_idle', '10'),
            ('mypay_readonly', 'tcp_keepalives_interval', '5'),
            ('mypay_readonly', 'tcp_keepalives_count', '3'),
            ('mypay_readonly', 'synchronous_commit', 'on'),
            ('mypay_readonly', 'default_transaction_read_only', 'on'),
            ('mypay_readonly', 'statement_timeout', '30s')
        ) AS s (whom, name, value)
        -- What is set already stays untouched: two sessions must not change one row at a time.
        WHERE NOT EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) AS c (pair)
            WHERE d.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
              AND d.setrole = s.whom::regrole
              AND lower(c.pair) = lower(s.name || '=' || s.value)
        )
    LOOP
        EXECUTE format(
            CASE setting.name
                -- A list of names, not one name with a comma in it.
                WHEN 'search_path' THEN 'ALTER ROLE %I IN DATABASE %I SET search_path TO ' || setting.value
                ELSE 'ALTER ROLE %I IN DATABASE %I SET ' || setting.name || ' TO ' || quote_literal(setting.value)
            END,
            setting.whom, current_database());
    END LOOP;
END $$;
ALTER SCHEMA public OWNER TO mypay_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly;
