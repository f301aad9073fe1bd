"""Faust's consumer as the stages run it: prompt, and never waiting for partitions that it had set aside."""

from pathlib import Path
from typing import Any

from faust.types.tuples import TP

from gateway.adapters.kafka.consumer import FETCH_WAIT_MS
from gateway.settings import Settings
from streams.app import build_app


async def test_a_fetch_waits_no_longer_than_that_of_our_other_consumers(tmp_path: Path) -> None:
    app: Any = build_app("test", Settings(home=tmp_path), "127.0.0.1:1")
    inner = app.consumer._thread._create_worker_consumer(app.transport)
    assert inner._fetch_max_wait_ms == FETCH_WAIT_MS


async def test_a_partition_whose_records_fill_the_buffer_is_still_asked_for(tmp_path: Path) -> None:
    app: Any = build_app("test", Settings(home=tmp_path), "127.0.0.1:1")
    consumer, partition = app.consumer, TP("mypay.orders", 0)
    consumer._active_partitions = {partition}
    consumer.on_buffer_full(partition)
    assert consumer._get_active_partitions() == {partition}
