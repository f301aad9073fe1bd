-- A consent's purposes are granted, revoked and over one by one. Whoever holds the consent's lock sees in its row which
-- are over; valid_until there is when time next ends something: a purpose with an end of its own, or the consent.
ALTER TABLE consent ADD COLUMN ended_purposes text[] NOT NULL DEFAULT '{}';

-- Every purpose that was ever ended: by which change of the consent, under which version of the terms, how and when.
CREATE TABLE consent_purpose_end (
    partner_id text NOT NULL,
    consent_id text NOT NULL,
    change     integer NOT NULL,
    purpose    text NOT NULL
        CONSTRAINT consent_purpose CHECK (purpose IN ('payment', 'portability', 'sharing', 'marketing')),
    how        text NOT NULL CONSTRAINT consent_purpose_how CHECK (how IN ('declined', 'revoked', 'expired', 'dropped')),
    version    integer NOT NULL,
    ended_at   timestamptz NOT NULL,
    PRIMARY KEY (partner_id, consent_id, change, purpose)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON consent_purpose_end
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- What ended a moment ago is compared with what was done under it.
CREATE INDEX consent_purpose_ended ON consent_purpose_end (purpose, ended_at);

-- Terms from before these purposes had their fields permit nothing for them: they count as over.
UPDATE consent SET ended_purposes = array_remove(ARRAY[
    CASE WHEN terms -> 'portability' ? 'data_sets' THEN 'portability' END,
    CASE WHEN terms ? 'sharing' AND NOT terms -> 'sharing' ? 'fields' THEN 'sharing' END], NULL)
WHERE terms ? 'portability' OR terms ? 'sharing';
UPDATE consent SET terms = jsonb_set(terms, '{portability}', jsonb_build_object(
    'recipients', '["0000000000"]'::jsonb, 'scopes', '["card.list"]'::jsonb, 'purpose', '-',
    'end_date', '2000-01-01', 'period', '2000-01-01'))
WHERE terms -> 'portability' ? 'data_sets';
UPDATE consent SET terms = jsonb_set(terms, '{sharing}', terms -> 'sharing' || jsonb_build_object(
    'fields', '["category"]'::jsonb, 'use_until', '2000-01-01T00:00:00Z'))
WHERE terms ? 'sharing' AND NOT terms -> 'sharing' ? 'fields';
-- A consent that permitted nothing else ends when the stage of times looks next.
UPDATE consent SET valid_until = least(valid_until, now())
WHERE status IN ('AWAU', 'AUTH', 'SUSP') AND NOT terms ? 'payment'
  AND (NOT terms ? 'portability' OR 'portability' = ANY (ended_purposes))
  AND (NOT terms ? 'sharing' OR 'sharing' = ANY (ended_purposes));
