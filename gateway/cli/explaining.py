"""Errors as sentences: what went wrong, what to do about it, and the exit code; the same from commands and stages."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Final, NoReturn

from gateway.cli.common import CliError, ExitCode, asked_address, err
from gateway.cli.legible import legible
from gateway.sealing.redaction import redact

ENV_DEBUG: Final = "MYPAY_DEBUG"


def end_with(error: Exception, *, json_: bool = False) -> NoReturn:
    """Print what went wrong and what to do, and end with its exit code."""
    told = explain(error)
    tell(str(told), told.code, told.hint, json_=json_)
    sys.exit(told.code)


def tell(message: str, code: int, hint: str = "", *, json_: bool = False) -> None:
    """Write an error to standard error: for people, or as one line of JSON."""
    message, hint = legible(redact(message)), legible(redact(hint))
    if json_:
        error = {"message": message, "exit_code": code} | ({"hint": hint} if hint else {})
        sys.stderr.write(json.dumps({"error": error}, ensure_ascii=False) + "\n")
        return
    console = err()
    console.print(message, style="red", markup=False, soft_wrap=True)
    if hint:
        console.print(hint, markup=False, soft_wrap=True)


def debugging() -> bool:
    """True if errors shall be told with their tracebacks."""
    return os.environ.get(ENV_DEBUG, "") not in ("", "0")


def explain(error: Exception) -> CliError:
    """Say an error in one sentence. Errors whose text may hold data are told by their class alone."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CliError):
        return error
    if (known := _known(error)) is None:
        return CliError(f"This should not happen: {type(error).__name__}.", hint=f"{ENV_DEBUG}=1 shows where.")
    code, sentence, hint = known
    text = sentence.format(error=error, type=type(error).__name__).replace("?.", "?")
    for server in ("Kafka", "PostgreSQL"):
        hint = hint.replace(f"{{{server}}}", asked_address(server))
    return CliError(text[0].upper() + text[1:] if text.startswith(_SMALL) else text, code, hint=hint)


def is_known(error: Exception) -> bool:
    """True if it is an error that may happen, with a sentence of its own."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return isinstance(error, CliError) or _known(error) is not None


def _known(error: Exception) -> "tuple[ExitCode, str, str] | None":
    names = (f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__)
    return next((_KNOWN[name] for name in names if name in _KNOWN), None)


_SMALL: Final = ("a ", "an ", "the ", "there ", "this ", "no ", "topic ")
_FAILED, _USAGE, _MISSING, _AWAY = ExitCode.FAILED, ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE
_POSTGRES: Final = (
    "Is PostgreSQL running{PostgreSQL}, and MYPAY_POSTGRES_DSN right? `mypay local status` shows the local one."
)
_KAFKA: Final = (
    "Is Kafka running{Kafka}, and MYPAY_KAFKA_BOOTSTRAP_SERVERS right? `mypay local status` shows the local one."
)
_SETTINGS: Final = "deploy/REFERENCE.md names and explains them all."
_TABLES: Final = "Run `mypay migrate`."
_TOPICS: Final = "`mypay topics apply` makes what is missing, `mypay topics check` tells what differs."

# By name, so that telling one library's error loads no other. The nearest class of an error's ancestors counts.
_KNOWN: Final[Mapping[str, tuple[ExitCode, str, str]]] = {
    "gateway.base.errors.StoreUnavailableError": (_AWAY, "The database is not available: {error}.", _POSTGRES),
    "gateway.base.errors.StoreUnfinishedError": (
        _AWAY,
        "The change is written and stands, but what was being decided before it may not be over yet ({error}).",
        "Whatever begins from now on heeds it. pg_stat_activity tells (xact_start) which transactions began before it.",
    ),
    "gateway.base.errors.StoreForbiddenError": (
        _FAILED,
        "PostgreSQL does not permit this user to do that ({error}).",
        "Each command has a user of its own: see deploy/postgres.",
    ),
    "gateway.base.errors.StoreConflictError": (_FAILED, "Another transaction was faster ({error}).", "Run it again."),
    "gateway.base.errors.StoreIntegrityError": (_FAILED, "The database refused this: {error}.", ""),
    "gateway.base.errors.TopicClosedError": (_USAGE, "{error}.", f"{_TOPICS} `mypay topics acl`: who may write."),
    "gateway.base.errors.TooLargeForTopicError": (_FAILED, "A record is {error}.", _TOPICS),
    "gateway.base.errors.PublisherUnavailableError": (_AWAY, "{error}.", _KAFKA),
    "gateway.app.sending_again.StoppedError": (_FAILED, "{error}.", ""),
    "gateway.app.sending_again.CutOffError": (_AWAY, "{error}.", ""),
    "gateway.messaging.reader.KafkaUnavailableError": (_AWAY, "{error}.", _KAFKA),
    "gateway.messaging.rewinding.GroupAliveError": (_USAGE, "{error}.", "Stop every process of the gateway."),
    "gateway.app.restoring.NotYetError": (_USAGE, "{error}.", ""),
    "gateway.messaging.reader.TopicMissingError": (_USAGE, "{error}.", _TOPICS),
    "gateway.messaging.topics_admin.TopicAdminError": (_AWAY, "{error}.", _KAFKA),
    "gateway.messaging.probe.KafkaDeniedError": (
        _FAILED,
        "{error}.",
        "`mypay topics acl` compares everybody's rights with the topic table.",
    ),
    "gateway.messaging.access.AccessError": (_AWAY, "{error}.", _KAFKA),
    "gateway.messaging.access.NotSecuredError": (
        _USAGE,
        "{error}.",
        "deploy/kafka/README.md tells how to secure it; `mypay topics acl --print` writes the rules out.",
    ),
    "gateway.directory.partners.UnknownPartnerError": (
        _MISSING,
        "{error}.",
        "`mypay partner list` shows them.",
    ),
    "gateway.sharing.registry.UnknownAffiliateError": (
        _MISSING,
        "{error}.",
        "`mypay affiliate list` shows them.",
    ),
    "gateway.database.errors.DatabaseUnfitError": (_USAGE, "{error}.", ""),
    "gateway.database.migrate.MigrationError": (_FAILED, "{error}.", ""),
    "gateway.sealing.files.SecretFileError": (_USAGE, "{error}.", ""),
    "gateway.identity.jose.jwk.KeyFormatError": (_USAGE, "{error}.", ""),
    "gateway.sealing.sealing.NoMasterKeyError": (
        _USAGE,
        "{error}.",
        "`mypay keys create` makes what is missing.",
    ),
    "gateway.sealing.sealing.UnsealError": (_FAILED, "{error}.", ""),
    "gateway.identity.jose.trust_files.TrustFileError": (_USAGE, "{error}.", "MYPAY_ISSUERS_DIR names the folder."),
    "gateway.network.iso8583.config.NetworkConfigError": (_USAGE, "{error}.", "MYPAY_NETWORKS_DIR names the folder."),
    "gateway.app.errors.NoAddressError": (_AWAY, "{error}.", ""),
    "gateway.app.errors.AnothersKafkaError": (
        _USAGE,
        "{error}.",
        "Correct Kafka's address, or PostgreSQL's. Did this gateway move? deploy/README.md, Moving to another Kafka.",
    ),
    "gateway.app.errors.NotConfiguredError": (_USAGE, "{error}.", ""),
    "gateway.app.environment.UnknownSettingError": (
        _USAGE,
        "{error}.",
        _SETTINGS,
    ),
    "gateway.app.environment.WrongSettingError": (_USAGE, "{error}.", _SETTINGS),
    "gateway.proving.stack.errors.LocalStackError": (_FAILED, "{error}", ""),
    "gateway.settlement.format.ClearingFileError": (_FAILED, "{error}.", ""),
    "gateway.consents.changing.ConsentUnknownError": (_MISSING, "{error}.", "`mypay consent list` shows them."),
    "gateway.consents.changing.ConsentCommandRefusedError": (_FAILED, "{error}.", ""),
    "schemas.codec.DecodeError": (_FAILED, "{error}.", ""),
    "asyncpg.exceptions.UndefinedTableError": (_USAGE, "The database has not our tables.", _TABLES),
    "asyncpg.exceptions.UndefinedColumnError": (_USAGE, "The database's tables are older.", _TABLES),
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError": (
        _USAGE,
        "PostgreSQL does not let this user in.",
        f"`mypay migrate` makes the users of a local stack. {_POSTGRES}",
    ),
    "asyncpg.exceptions.InvalidCatalogNameError": (_USAGE, "PostgreSQL has no such database.", _POSTGRES),
    "asyncpg.exceptions.InsufficientPrivilegeError": (_FAILED, "PostgreSQL does not permit this user to do that.", ""),
    "asyncpg.exceptions.QueryCanceledError": (_AWAY, "The database took too long.", ""),
    "asyncpg.exceptions._base.PostgresError": (
        _FAILED,
        "PostgreSQL refused it ({type}).",
        f"{ENV_DEBUG}=1 shows more.",
    ),
    "aiokafka.errors.UnknownTopicOrPartitionError": (_USAGE, "Kafka has not the topic that this needs.", _TOPICS),
    "aiokafka.errors.KafkaError": (_AWAY, "Kafka refused or did not answer ({type}).", _KAFKA),
    "sqlite3.OperationalError": (
        _FAILED,
        "A file of SQLite's cannot be written ({error}).",
        "What a restore keeps meanwhile lies in the folder that TMPDIR names: has it room?",
    ),
    "gateway.base.errors.SilentServerError": (_AWAY, "{error}.", "`mypay local status`"),
    "builtins.ConnectionError": (_AWAY, "A connection was refused or lost ({type}).", "`mypay local status`"),
    "builtins.TimeoutError": (_AWAY, "There was no answer in time.", "`mypay local status`"),
    "builtins.OSError": (_FAILED, "{error}.", ""),
}
