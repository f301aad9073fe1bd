"""Settings below which a process could stand still are refused as it starts."""

from pathlib import Path

import pytest

from gateway.app.environment import WrongSettingError, read_settings

LEAST = 4


def test_a_pool_of_too_few_connections_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYPAY_EXECUTION_POOL_SIZE", str(LEAST))
    assert read_settings().execution_pool_size == LEAST
    monkeypatch.setenv("MYPAY_EXECUTION_POOL_SIZE", str(LEAST - 1))
    with pytest.raises(WrongSettingError, match=r"MYPAY_EXECUTION_POOL_SIZE: .* 4$"):
        read_settings()
