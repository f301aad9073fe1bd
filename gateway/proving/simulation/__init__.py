"""Deterministic simulation: the real services on ports in memory, under virtual time and a seeded adversary.

outcome = simulate(seed)            # one world, from its orders to the last event, and everything that was violated
outcome.violations, outcome.faults, outcome.digest
"""
