"""What must hold: at every commit, at every message that leaves, and once a world has come to rest."""
