-- What the schedule called before events lay in partitions: nobody has since.
DROP FUNCTION purge_relayed_events(timestamptz, integer);
