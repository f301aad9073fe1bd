"""Requests of Kafka's protocol that aiokafka (pinned) has no call for: rules, quotas, SCRAM users, a topic's settings.

The shapes are those of ``clients/src/main/resources/common/message`` in Apache Kafka; the versions are the oldest that
brokers of 4.x still take.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.admin import CreateAclsRequest_v1, DeleteAclsRequest_v1
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Float64,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

SCRAM_SHA_512: Final = 2
"""``ScramMechanism`` in AlterUserScramCredentialsRequest."""

_TOPIC: Final = 2
_SET: Final = 0

_TEXT: Final = String("utf-8")
_COMPACT_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_THROTTLE: Final = ("throttle_time_ms", Int32)
_ERROR: Final = (("error_code", Int16), ("error_message", _TEXT))
_COMPACT_ERROR: Final = (("error_code", Int16), ("error_message", _COMPACT_TEXT))
_ENTITY: Final = ("entity", Array(("entity_type", _TEXT), ("entity_name", _TEXT)))
"""A user or client id that a quota is for."""


class Prepared:
    """A request in the one version that we speak; what aiokafka's connections ask of its own kind."""

    def __init__(self, request: RequestStruct) -> None:
        self._request = request

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> RequestStruct:
        """The request itself.

        Raises:
            IncompatibleBrokerVersion: the broker does not take this version.
        """
        lowest, highest = versions.get(self._request.API_KEY, (1, 0))
        if not lowest <= self._request.API_VERSION <= highest:
            raise IncompatibleBrokerVersion(f"{type(self._request).__name__} is not taken by this broker")
        return self._request


def create_acls(rules: Sequence[tuple[Any, ...]]) -> Prepared:
    """``rules``: resource type, name, pattern type, principal, host, operation, permission."""
    return Prepared(CreateAclsRequest_v1(list(rules)))


def delete_acls(filters: Sequence[tuple[Any, ...]]) -> Prepared:
    """``filters``: of the same shape."""
    return Prepared(DeleteAclsRequest_v1(list(filters)))


def set_topic_configs(settings: Mapping[str, Mapping[str, str]]) -> Prepared:
    """``settings``: topic → setting → value; what is not named stays."""
    resources = [(_TOPIC, t, [(n, _SET, v) for n, v in values.items()]) for t, values in settings.items()]
    return Prepared(_IncrementalAlterConfigsRequestV0(resources, False))  # noqa: FBT003 - not a trial


def set_quotas(kind: Literal["user", "client-id"], quotas: Mapping[str, Mapping[str, float]]) -> Prepared:
    """``quotas``: user (or client id) → quota → value; what is not named stays."""
    entries = [([(kind, name)], [(n, v, False) for n, v in values.items()]) for name, values in quotas.items()]
    return Prepared(_AlterClientQuotasRequestV0(entries, False))  # noqa: FBT003 - not a trial


def describe_scram_users() -> Prepared:
    """Every user that has a SCRAM password."""
    return Prepared(_DescribeUserScramCredentialsRequestV0(None, {}))


def set_scram_passwords(users: Sequence[tuple[str, int, bytes, bytes]]) -> Prepared:
    """``users``: name, iterations, salt, salted password of SCRAM-SHA-512."""
    upsertions: list[tuple[Any, ...]] = [
        (name, SCRAM_SHA_512, iterations, salt, salted, {}) for name, iterations, salt, salted in users
    ]
    return Prepared(_AlterUserScramCredentialsRequestV0([], upsertions, {}))


class _IncrementalAlterConfigsResponseV0(Response):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(_THROTTLE, ("responses", Array(*_ERROR, ("resource_type", Int8), ("resource_name", _TEXT))))


class _IncrementalAlterConfigsRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _IncrementalAlterConfigsResponseV0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", _TEXT),
                ("configs", Array(("name", _TEXT), ("config_operation", Int8), ("value", _TEXT))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterClientQuotasResponseV0(Response):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(_THROTTLE, ("entries", Array(*_ERROR, _ENTITY)))


class _AlterClientQuotasRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _AlterClientQuotasResponseV0
    SCHEMA = Schema(
        ("entries", Array(_ENTITY, ("ops", Array(("key", _TEXT), ("value", Float64), ("remove", Boolean))))),
        ("validate_only", Boolean),
    )


class _DescribeUserScramCredentialsResponseV0(Response):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 50
    API_VERSION = 0
    SCHEMA = Schema(
        _THROTTLE,
        *_COMPACT_ERROR,
        (
            "results",
            CompactArray(
                ("user", _COMPACT_TEXT),
                *_COMPACT_ERROR,
                ("credential_infos", CompactArray(("mechanism", Int8), ("iterations", Int32), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeUserScramCredentialsRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 50
    API_VERSION = 0
    RESPONSE_TYPE = _DescribeUserScramCredentialsResponseV0
    SCHEMA = Schema(("users", CompactArray(("name", _COMPACT_TEXT), _TAGS)), _TAGS)


class _AlterUserScramCredentialsResponseV0(Response):  # type: ignore[misc]  # aiokafka ships no types
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(_THROTTLE, ("results", CompactArray(("user", _COMPACT_TEXT), *_COMPACT_ERROR, _TAGS)), _TAGS)


class _AlterUserScramCredentialsRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka ships no types
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _AlterUserScramCredentialsResponseV0
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", _COMPACT_TEXT), ("mechanism", Int8), _TAGS)),
        (
            "upsertions",
            CompactArray(
                ("name", _COMPACT_TEXT),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                _TAGS,
            ),
        ),
        _TAGS,
    )
