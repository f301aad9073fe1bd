"""What is shown to people, in words: the same at every place that shows it."""


def money(minor: int, currency: str) -> str:
    """``12,500 KRW`` or ``1,050.20 USD``."""
    from schemas.primitives import decimal_of  # noqa: PLC0415 - commands that show no money load no models

    whole, point, fraction = decimal_of(minor, currency).partition(".")
    return f"{int(whole):,}{point}{fraction} {currency}"
