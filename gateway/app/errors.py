"""What keeps a process from starting."""


class NotConfiguredError(Exception):
    """Something that this process needs is not configured; the text says what to do."""
