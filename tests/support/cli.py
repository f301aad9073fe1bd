"""Running `mypay` inside the test's own process: exit code, output, and standard input as bytes."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from gateway.cli import main

NETWORK = """
network_id = "bcard"
addresses = ["127.0.0.1:{port}"]
dialect = "iso87-ascii"
frame = "binary2"
acquirer_id = "410001"
time_zone = "Asia/Seoul"
currencies = ["KRW"]
[terminals]
prefix = "GW"
count = 4
"""
"""A network's file."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def expect(self, code: int = 0) -> "Ran":
        assert self.code == code, f"exit code {self.code}, wanted {code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self


def mypay(*arguments: object, given: bytes | str = b"") -> Ran:
    out, err = io.StringIO(), io.StringIO()
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given.encode() if isinstance(given, str) else given))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main([str(a) for a in arguments])
    except SystemExit as ended:
        return Ran(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.stdin = stdin
    raise AssertionError("the program did not exit")
