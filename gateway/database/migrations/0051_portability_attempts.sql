-- What an attempt at an export may have handed over, counted before each chunk leaves: should it come to nothing, its
-- chunks were read all the same, and are a use of the consent.
ALTER TABLE portability_export
    ADD COLUMN sent_chunks  integer NOT NULL DEFAULT 0,
    ADD COLUMN sent_version integer;
