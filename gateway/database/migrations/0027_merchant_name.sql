-- What people call a merchant, in any script; name_location is what networks take as DE43, in ASCII.
ALTER TABLE merchant ADD COLUMN name text;
