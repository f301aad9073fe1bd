"""Payments that have been final for long: out of the hot tables, into files, and their ids used for ever."""
