"""Which build this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Final

_PACKAGE: Final = "mypay-gateway"


@cache
def version() -> str:
    """The installed package's version; "unknown" where the sources run without being installed."""
    try:
        return installed(_PACKAGE)
    except PackageNotFoundError:
        return "unknown"
