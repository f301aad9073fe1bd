"""What is told of an id that comes again with other content: which fields differ from what stands under it.

Compared is what is kept of the first one. Where none of that differs the bytes do all the same: other times, another
day or proof, or only blanks. The very same bytes would have been a repetition, and told where the first one stands.
"""

from collections.abc import Mapping

from schemas.reasons import Reason, ReasonCode

Facts = Mapping[str, object]
"""Field → value, for the fields that are kept of a message. One that is missing on either side is not compared."""


def id_used(name: str, first: Facts, later: Facts, *, stands: str = "the first one stands") -> Reason:
    """Refuse an id, of field ``name``, under which ``first`` stands; the fields of ``later`` that differ are named.

    Nothing of their values is told.
    """
    differing = [field for field in first if field in later and first[field] != later[field]]
    if differing:
        text = (
            f"{name} was used before with other content: {' and '.join(differing)} differ{'s' * (len(differing) == 1)}"
        )
    else:
        text = (
            f"{name} was used before with other bytes that say the same but for times, days, proof or blanks: send a"
            " repetition byte for byte"
        )
    return Reason(code=ReasonCode.AM05, text=f"{text}; {stands}")
