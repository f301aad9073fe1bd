"""The disclosure log: every use of a customer's consent, once, in a chain that shows any change."""
