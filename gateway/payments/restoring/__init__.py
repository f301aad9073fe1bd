"""After a database was set back in time: what it has forgotten is found again, and nothing is paid twice."""
