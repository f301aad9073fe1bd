"""What may be shared, what of it, and when it must be erased: pure."""
