"""Decisions of joint marketing: pure functions over frozen data."""
