-- What payments have taken of a window is one figure: a payment is counted when it is sent, and taken out again if nothing
-- of it stands in the end. It is the sum of two columns, so that execution of the release before, which moves a payment
-- from the first to the second when it is approved, may still run. Nothing adds to the second one any more.
COMMENT ON COLUMN consent_usage.reserved_minor IS 'taken, with consumed_minor: minor units of payments in flight or standing';
COMMENT ON COLUMN consent_usage.reserved_count IS 'taken, with consumed_count: payments in flight or standing';
COMMENT ON COLUMN consent_usage.consumed_minor IS 'of the release before; counts as reserved_minor does';
COMMENT ON COLUMN consent_usage.consumed_count IS 'of the release before; counts as reserved_count does';
