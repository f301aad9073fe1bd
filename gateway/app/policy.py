"""Whose proofs are trusted and what is asked for: read from the settings, and held against what counts.

A missing folder, an empty one, or none without a word about it is never taken for "no proof is needed": whoever wants
that says so, in every process.
"""

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.identity.jose.issuers import PolicyNotAppliedError
from gateway.identity.jose.trust_files import TrustFileError, TrustFiles, policy_digest, read_trust_files

JUDGING = frozenset(("initiation", "consents", "execution", "portability"))
"""Stages that judge customers' proofs."""

_APPLY = "`mypay auth policy show` compares them, `mypay auth policy apply` lets the one here count"


def read_policy(settings: Settings) -> TrustFiles | None:
    """Read the trust policy; None where no proof is asked for.

    Raises:
        NotConfiguredError: neither was said, both were, or the folder cannot be used.
    """
    folder = settings.issuers_dir
    if folder is None:
        if settings.allow_no_proof:
            return None
        raise NotConfiguredError(
            "MYPAY_ISSUERS_DIR is not set, so no customer could prove anything: set it, e.g. to deploy/issuers, or say "
            "MYPAY_ALLOW_NO_PROOF=1 to ask for no proof at all"
        )
    if settings.allow_no_proof:
        raise NotConfiguredError("MYPAY_ALLOW_NO_PROOF and MYPAY_ISSUERS_DIR are both set: unset one of them")
    try:
        return read_trust_files(folder)
    except TrustFileError as error:
        raise NotConfiguredError(f"MYPAY_ISSUERS_DIR: {error}") from None


def digest_of(settings: Settings) -> str:
    """Digest of the trust policy here; raises as :func:`read_policy`."""
    return policy_digest(read_policy(settings))


def differs(error: PolicyNotAppliedError) -> NotConfiguredError:
    """Say what to do about it."""
    return NotConfiguredError(f"{error}: {_APPLY}")
