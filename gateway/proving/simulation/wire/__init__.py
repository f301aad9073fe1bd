"""Between the workers and the card network: links, and everything that wires do to messages."""
