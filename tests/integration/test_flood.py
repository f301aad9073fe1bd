"""A partner that sends far more than execution takes: its orders wait for their turn, no other's do, none is lost."""

from collections import Counter

from gateway.messaging.records import Outgoing
from gateway.proving.traffic.cast import Role
from schemas.topics import ORDERS
from tests.support.entries import BCARD, DEAD, KCARD, Entry
from tests.support.scene import Scene

FLOOD = 1_200
NOISE = 3_000
INITIATION = "initiation"


async def waited(scene: Scene) -> int:
    return (await scene.outcomes(INITIATION))[INITIATION, "waits", ""]


async def test_orders_that_wait_for_their_turn_survive_a_kill_and_are_paid_once(scene: Scene) -> None:
    plain = scene.world.cast.of(Role.PLAIN)
    flooders = [c for c in plain if c.terms.partner_id == plain[0].terms.partner_id]
    quiet = next(c for c in plain if c not in flooders)
    before = await waited(scene)
    flood = [
        scene.entry(scene.order((BCARD, KCARD)[n % 2], customer=flooders[n % len(flooders)])) for n in range(FLOOD)
    ]
    others = [scene.entry(scene.order(customer=quiet)) for _ in range(10)]
    await scene.send([*flood, *others])

    async def some_wait() -> bool:
        return await waited(scene) > before

    await scene.until(some_wait, "orders of the flood wait for their turn")
    await scene.until_states(others, "approved")
    await scene.kill(INITIATION)
    scene.start(INITIATION)
    await scene.until_states(flood, "approved", within_s=300.0)
    await scene.settle(within_s=300.0)
    states = Counter(r["state"] for r in (await scene.rows_of([*flood, *others])).values())
    assert states == {"settled": FLOOD + len(others)}
    await scene.check_books()


async def test_noise_under_a_partners_key_id_harms_nobody(scene: Scene) -> None:
    """Whoever may write to the topic can claim any key: what it does not sign is never charged to that partner."""
    customer = scene.world.cast.of(Role.PLAIN)[0]
    good = scene.entry(scene.order(customer=customer)).record
    head, _, _ = dict(good.headers)["signature"].partition(b".")
    headers = [(n, head + b".." + b"A" * 86 if n == "signature" else v) for n, v in good.headers]
    before = await scene.outcomes(INITIATION)
    noise = [
        Entry(Outgoing(ORDERS, b"noise-%d" % (n % 50), b"noise %d" % n, headers), None, DEAD, "noise")
        for n in range(NOISE)
    ]
    await scene.send(noise)
    entries = [scene.entry(scene.order(customer=customer)) for _ in range(10)]
    await scene.send(entries)
    await scene.until_states(entries, "approved", within_s=300.0)

    async def all_parked() -> bool:
        told = await scene.outcomes(INITIATION) - before
        return sum(n for (_, outcome, _), n in told.items() if outcome == "dead_letter") >= NOISE

    await scene.until(all_parked, "all noise is parked", within_s=300.0)
    await scene.settle()
    await scene.check_books()
