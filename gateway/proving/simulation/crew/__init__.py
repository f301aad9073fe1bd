"""Who works in a world: processes of every stage, as they are put together in production, at the adversary's mercy."""
