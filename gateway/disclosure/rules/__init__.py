"""What an entry is, how entries are chained and proven, and what is wrong with a chain that was changed: pure."""
