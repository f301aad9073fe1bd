"""The SQL that makes :mod:`gateway.database.roles` true, and how it is applied.

Two scripts, each safe to run again at any time:

- *roles*, as a superuser: makes the roles, without passwords; gives schema and tables to the owner; takes from
  everybody what PostgreSQL gives to everybody; and sets what each role's sessions begin with.
- *grants*, as the owner: takes every right on every table, sequence and function away and gives those of the table.
  Migrations run it too, so a new table comes with its rights.
"""

from collections.abc import Iterator
from typing import Any, Final

import asyncpg

from gateway.database.roles import (
    ALL,
    FUNCTIONS,
    RUNNING,
    SEQUENCES,
    SETTINGS,
    SETTINGS_OF,
    TABLES,
    Access,
    Columns,
    Role,
)
from gateway.database.sessions import connect

ROLES_FILE: Final = "roles.sql"
GRANTS_FILE: Final = "grants.sql"

_HEAD: Final = "-- Made from gateway/database/roles.py by `mypay migrate roles --write`. Do not edit.\n"

ATTEMPTS: Final = 20

_ATTRIBUTES: Final = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT"

_CREATE: Final = """
DO $$
DECLARE
    name text;
    granted record;
BEGIN
    FOREACH name IN ARRAY ARRAY[{names}] LOOP
        BEGIN
            -- Passwords are not set here.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I {attributes}', name);
            ELSIF EXISTS (
                SELECT FROM pg_catalog.pg_roles
                WHERE rolname = name AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
            ) THEN
                EXECUTE format('ALTER ROLE %I {attributes}', name);
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
        WHERE m.rolname = ANY (ARRAY[{names}])
    LOOP
        EXECUTE format('REVOKE %I FROM %I', granted.what, granted.whom);
    END LOOP;
END $$;
"""

_OWN: Final = """
DO $$
DECLARE
    statement text;
    setting record;
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {everybody}', current_database());
    -- Migrations make a function's search_path and tables; nothing else needs the database itself.
    FOR statement IN
        SELECT format('ALTER TABLE public.%I OWNER TO {owner}', relname)
        FROM pg_catalog.pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
          AND relowner <> '{owner}'::regrole
        UNION ALL
        -- An identity's sequence goes with its table.
        SELECT format('ALTER SEQUENCE public.%I OWNER TO {owner}', c.relname)
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relowner <> '{owner}'::regrole
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i')
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO {owner}', oid::regprocedure)
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner <> '{owner}'::regrole
    LOOP
        EXECUTE statement;
    END LOOP;
    FOR setting IN
        SELECT * FROM (VALUES
            {settings}
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
ALTER SCHEMA public OWNER TO {owner};
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {running};
"""

_BARE: Final = """
-- From nothing: what is not granted below is not granted.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        -- Rights on columns go with those on the table.
        SELECT format('REVOKE ALL ON TABLE public.%I FROM PUBLIC, {running}', relname)
        FROM pg_catalog.pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        UNION ALL
        SELECT format('REVOKE ALL ON SEQUENCE public.%I FROM PUBLIC, {running}', relname)
        FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
        UNION ALL
        SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, {running}', oid::regprocedure)
        FROM pg_catalog.pg_proc WHERE pronamespace = 'public'::regnamespace
    LOOP
        EXECUTE statement;
    END LOOP;
    -- Whatever the caller's search path is, a function means the tables that it was written for.
    FOR statement IN
        SELECT format('ALTER FUNCTION %s SET search_path = public, pg_temp', oid::regprocedure)
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_catalog.unnest(proconfig) AS c (pair) WHERE c.pair LIKE 'search_path=%')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
"""


def roles_sql() -> str:
    """The script *roles*: for the server and one database, as a superuser."""
    everybody = ", ".join(r.user for r in Role)
    pairs = [
        (role.user, name, value)
        for role in RUNNING
        for name, value in {**SETTINGS, **SETTINGS_OF.get(role, {})}.items()
    ]
    own = _OWN.format(
        owner=Role.OWNER.user,
        everybody=everybody,
        running=_running(),
        settings=",\n            ".join(f"('{user}', '{name}', '{value}')" for user, name, value in pairs),
    )
    create = _CREATE.format(names=", ".join(f"'{r.user}'" for r in Role), attributes=_ATTRIBUTES)
    return (
        f"{_HEAD}-- In the gateway's database, as a superuser; safe to run again. Then give each role a password of\n"
        "-- its own (psql: \\password mypay_relay), or let it in by certificate; run `mypay migrate` as mypay_owner.\n"
        f"{create}{own}"
    )


def grants_sql() -> str:
    """The script *grants*: for one database, as its owner."""
    lines = [f"GRANT {right} ON public.{table} TO {users};" for table, right, users in _table_grants()]
    lines += [f"GRANT USAGE ON SEQUENCE public.{name} TO {_users(roles)};" for name, roles in SEQUENCES.items()]
    lines += [
        f"GRANT EXECUTE ON FUNCTION public.{name} TO {_users(roles)};" for name, roles in FUNCTIONS.items() if roles
    ]
    return (
        f"{_HEAD}-- In the gateway's database, as mypay_owner, after its migrations; `mypay migrate` does so itself.\n"
        f"{_BARE.format(running=_running())}\n" + "\n".join(lines) + "\n"
    )


async def apply_roles(dsn: str) -> None:
    """Run the script *roles* as a superuser.

    Roles belong to the whole server: where another session changes them meanwhile, it is tried again.

    Raises:
        asyncpg.InsufficientPrivilegeError: the user of the address may not make roles.
    """
    connection = await connect(dsn)
    try:
        for left in reversed(range(ATTEMPTS)):
            try:
                await connection.execute(roles_sql())
            except (asyncpg.InternalServerError, asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                # "tuple concurrently updated": the catalogues know no waiting.
                if not left:
                    raise
            else:
                return
    finally:
        await connection.close()


async def apply_grants(connection: "asyncpg.Connection[Any]") -> None:
    """Run the script *grants* as far as tables are there. The connection is the owner's."""
    await connection.execute(grants_sql())


def _table_grants() -> Iterator[tuple[str, str, str]]:
    """(table, right, users), those with the same rights together."""
    for table, accesses in TABLES.items():
        by_right: dict[str, list[Role]] = {}
        for role, access in accesses.items():
            by_right.setdefault(_rights(access), []).append(role)
        for rights, roles in by_right.items():
            yield table, rights, _users(roles)


def _rights(access: Access) -> str:
    columns: list[tuple[str, Columns]] = [
        ("SELECT", access.select),
        ("INSERT", access.insert),
        ("UPDATE", access.update),
    ]
    rights = [name if of == ALL else f"{name} ({', '.join(of)})" for name, of in columns if of]
    return ", ".join([*rights, *(["DELETE"] if access.delete else [])])


def _users(roles: "frozenset[Role] | list[Role]") -> str:
    return ", ".join(r.user for r in RUNNING if r in roles)


def _running() -> str:
    return ", ".join(r.user for r in RUNNING)
