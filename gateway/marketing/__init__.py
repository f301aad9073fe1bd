"""Joint marketing: campaigns, offers to customers who agree to them, their uses, and aggregates for both groups."""
