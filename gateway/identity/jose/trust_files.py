"""The trust table as files: a folder with ``policy.toml`` and one ``*.toml`` an identity provider.

Checked whole and refused by the name of the wrong key. Nothing here is secret.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.base.causes import cause_of
from gateway.identity.assurance import AssurancePolicy, AssuranceRule, AssuredOperation, Issuer, Requirement
from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.jose.jwks import check_url
from schemas.primitives import minor_of
from schemas.wording import faults_of

POLICY_FILE: Final = "policy.toml"

T = TypeVar("T", bound=BaseModel)


class TrustFileError(Exception):
    """A file of the trust table is missing or wrong; names the file and the key."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class IssuerFile(_Section):
    """One identity provider.

    Attributes:
        issuer: its ``iss``, compared character by character.
        audience: what its ``aud`` must contain.
        algorithms: what it may sign with; a key of another algorithm is never used.
        jwks_url, jwks_file: where its key set is: one of them; a file is looked for beside this one.
        refresh_seconds: how often the URL is asked; a key that disappeared stops working within this time. A provider
            that sends an ETag is answered for with a few bytes.
        revoked_kids: keys that must not be trusted whatever the key set says.
        operations: what its assertions may be used for.
        levels: ``acr`` → level.
    """

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    group: Literal["financial", "telecom"]
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    algorithms: Annotated[frozenset[Literal["ES256", "Ed25519"]], Field(min_length=1)] = frozenset(("ES256", "Ed25519"))
    jwks_url: Annotated[str, AfterValidator(check_url)] | None = None
    jwks_file: Path | None = None
    refresh_seconds: Annotated[float, Field(ge=1, le=300)] = 5.0
    revoked_kids: frozenset[str] = frozenset()
    operations: frozenset[AssuredOperation] = frozenset(AssuredOperation)
    levels: Annotated[dict[str, Annotated[int, Field(ge=1, le=9)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give exactly one of jwks_url and jwks_file")
        return self

    @property
    def entry(self) -> Issuer:
        """The provider as the domain sees it."""
        return Issuer(
            issuer=self.issuer,
            home_group=self.group,
            audience=self.audience,
            levels=self.levels,
            operations=self.operations,
            algorithms=self.algorithms,
        )


class _RuleRow(_Section):
    operation: AssuredOperation
    up_to: dict[str, str] | None = None
    level: Annotated[int, Field(ge=0, le=9)]
    max_age_seconds: Annotated[int, Field(ge=1, le=86_400)]

    @model_validator(mode="after")
    def _amounts_are_amounts(self) -> Self:
        self.minor_units()
        return self

    def minor_units(self) -> dict[str, int] | None:
        """The amounts in minor units; raises ValueError for one that is none."""
        return None if self.up_to is None else {c: minor_of(value, c) for c, value in self.up_to.items()}


class _CapRow(_Section):
    max_amount: str
    max_count: Annotated[int, Field(ge=1, le=1_000_000)]
    max_sum: str


class _PolicyFile(_Section):
    """``policy.toml``.

    Attributes:
        methods: ``amr`` → the highest level that it can prove.
        exemptions: currency → the most that consents may let pass without a proof; none in any other currency.
    """

    rules: Annotated[list[_RuleRow], Field(min_length=1)]
    methods: dict[Annotated[str, Field(min_length=1, max_length=255)], Annotated[int, Field(ge=1, le=9)]]
    exemptions: dict[str, _CapRow] = {}

    @model_validator(mode="after")
    def _amounts_are_amounts(self) -> Self:
        self.caps()
        return self

    def caps(self) -> dict[str, ExemptionCap]:
        """The caps in minor units; raises ValueError for an amount that is none."""
        return {
            currency: ExemptionCap(minor_of(row.max_amount, currency), row.max_count, minor_of(row.max_sum, currency))
            for currency, row in self.exemptions.items()
        }


@dataclass(frozen=True, slots=True)
class TrustFiles:
    """The folder as read."""

    issuers: Mapping[str, IssuerFile]
    policy: AssurancePolicy


def read_trust_files(folder: Path) -> TrustFiles:
    """Read the folder.

    Raises:
        TrustFileError: no policy, no provider, two files for one provider, or a wrong key in a file.
    """
    policy = _read(_PolicyFile, folder / POLICY_FILE)
    issuers: dict[str, IssuerFile] = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name == POLICY_FILE:
            continue
        file = _read(IssuerFile, path)
        if file.jwks_file is not None:
            file = file.model_copy(update={"jwks_file": folder / file.jwks_file})
        if file.issuer in issuers:
            raise TrustFileError(f"{path.name}: another file has this issuer too")
        issuers[file.issuer] = file
    if not issuers:
        raise TrustFileError(f"{folder} names no issuer")
    rules = [
        AssuranceRule(r.operation, r.minor_units(), Requirement(r.level, timedelta(seconds=r.max_age_seconds)))
        for r in policy.rules
    ]
    return TrustFiles(issuers, AssurancePolicy(tuple(rules), policy.methods, policy.caps()))


def policy_digest(files: TrustFiles | None) -> str:
    """Name what is trusted and asked for: SHA-256, hexadecimal. None: no proof is asked for.

    Where keys come from is part of it. What only takes trust away (``revoked_kids``) and how often a source is read are
    not: they count at once.
    """
    if files is None:
        told: Any = "no proof"
    else:
        issuers = [_told_issuer(files.issuers[name]) for name in sorted(files.issuers)]
        policy = files.policy
        caps = policy.exemptions or {}
        told = {
            "issuers": issuers,
            "rules": [
                [r.operation.value, _sorted(r.up_to), r.requirement.level, r.requirement.max_age.total_seconds()]
                for r in policy.rules
            ],
            "methods": _sorted(policy.methods),
            "exemptions": [[c, *astuple(caps[c])] for c in sorted(caps)],
        }
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _told_issuer(file: IssuerFile) -> dict[str, Any]:
    return {
        "issuer": file.issuer,
        "group": file.group,
        "audience": file.audience,
        "algorithms": sorted(file.algorithms),
        "jwks_url": file.jwks_url,
        # The folder may be another on each machine.
        "jwks_file": file.jwks_file and file.jwks_file.name,
        "operations": sorted(file.operations),
        "levels": _sorted(file.levels),
    }


def _sorted(table: Mapping[str, int] | None) -> list[tuple[str, int]] | None:
    return None if table is None else sorted(table.items())


def _read(model: type[T], path: Path) -> T:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return model.model_validate(values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrustFileError(f"{path}: {cause_of(error)}") from None
    except ValidationError as error:
        raise TrustFileError(f"{path.name}: {faults_of(error)}") from None
