"""What partners, customers, operators, networks and forgers do in one world."""
