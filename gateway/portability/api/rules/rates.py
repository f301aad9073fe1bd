"""How many calls a recipient may make: a bucket each, that fills steadily."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many calls are left at a moment of a clock that never goes back, in seconds."""

    left: float
    at: float


def take(bucket: Bucket | None, now: float, *, per_second: int, burst: int) -> tuple[Bucket, int]:
    """Take one call; with it, 0, or in how many whole seconds there is one again."""
    left = float(burst) if bucket is None else min(burst, bucket.left + (now - bucket.at) * per_second)
    if left >= 1:
        return Bucket(left - 1, now), 0
    return Bucket(left, now), max(math.ceil((1 - left) / per_second), 1)
