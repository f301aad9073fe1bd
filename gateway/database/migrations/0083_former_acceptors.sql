-- Under which acceptor ids (DE42) a merchant was paid before: what is cleared is compared with these and today's.
ALTER TABLE merchant ADD COLUMN former_acceptors text[] NOT NULL DEFAULT '{}';
