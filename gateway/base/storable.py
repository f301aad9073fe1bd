"""What PostgreSQL can hold."""


def is_storable(text: str) -> bool:
    """False for what no text of the server's can hold: NUL, and half of a surrogate pair, which no UTF-8 spells."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
