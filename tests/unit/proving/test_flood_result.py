"""What the bench of floods tells: how late the others were, and how much of each flood the brokers let in."""

from gateway.proving.bench.flood import QUIET, FloodPlan, FloodResult, Sent


def test_the_last_line_tells_what_was_offered_and_what_was_let_in_beside_how_late_others_were() -> None:
    result = FloodResult(
        FloodPlan(),
        capacity_per_s=500.0,
        latencies_ms={QUIET: [100] * 100, "orders": [150] * 98 + [300] * 2, "bulks": [250] * 100},
        sent={
            # Seven of ten times the capacity were held up.
            "orders": Sent(orders=1, offered=50_000, admitted=15_000, seconds=10.0, per_second=5_000.0),
            "bulks": Sent(orders=1_000, offered=40, admitted=20, seconds=10.0),
        },
    )
    assert result.last_line() == (
        "flood: capacity_per_s=500 quiet_p99_ms=100 orders_ratio=3.00 bulks_ratio=2.50"
        " orders_offered_x=10.0 orders_admitted_x=3.0 bulks_admitted_x=4.0"
    )
