"""What the processes say of themselves on /readyz, against a real broker."""

from gateway.messaging.probe import KafkaProbe
from gateway.messaging.settings import KafkaSettings
from schemas.topics import ORDERS
from tests.support.scene import Scene


async def test_every_process_says_what_it_looked_at(scene: Scene) -> None:
    # A member that is out of its group for a moment may be so for a while after it was seen in it.
    await scene.until_ready()
    for name in scene.world.http:
        status, checks = await scene.readyz(name)
        assert (status, set(checks.values())) == (200, {"ok"})
        assert {"postgres", "kafka", "topics", "disk"} <= checks.keys()
        reads = not name.startswith("relay")
        assert any(check.startswith("group ") for check in checks) == reads
        assert ("partner-keys" in checks) == name.startswith(("initiation", "execution"))


async def test_a_topic_that_is_not_there_is_named(scene: Scene) -> None:
    kafka = KafkaSettings(scene.world.kafka_bootstrap_servers)
    probe = KafkaProbe(kafka, [ORDERS, "mypay.never-made"])
    assert await probe.problem(timeout_s=60) == "topic mypay.never-made does not exist"
    assert await KafkaProbe(kafka, [ORDERS]).problem(timeout_s=60) is None
