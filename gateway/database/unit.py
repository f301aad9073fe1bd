"""Transactions that hand out stores. Which ones says the type of the unit, which the use case names."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

U_co = TypeVar("U_co", covariant=True)


class Store(Protocol[U_co]):
    """The database, as far as a use case may touch it.

    What is written through one unit commits together or not at all. A store of a wider unit is one of a narrower.
    """

    def transaction(self) -> AbstractAsyncContextManager[U_co]:
        """Begin; commit at the end of the block, roll back when it raises.

        Raises:
            StoreUnavailableError, StoreConflictError: from any call inside, or at the commit.
        """

    def reading(self) -> AbstractAsyncContextManager[U_co]:
        """A connection without a transaction, for advice that nothing rests on."""
