"""The one error of the local stack."""


class LocalStackError(Exception):
    """The local stack could not do what was asked.

    `str()` is one sentence for people; `hint` says what they can do about it, and may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
