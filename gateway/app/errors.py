"""What keeps a process from starting."""


class NotConfiguredError(Exception):
    """Something that this process needs is not configured; the text says what to do."""


class NoAddressError(NotConfiguredError):
    """No address of a server is set, and no local stack runs."""
