-- Whose a funding token is, and which partners that customer lets use it. The owner is bound into the ciphertext: a row
-- whose customer is changed here does not open. Tokens from before have no owner and are refused until `mypay token
-- assign` gives them one, which seals them anew.
ALTER TABLE funding_token
    ADD COLUMN customer_id text,
    ADD COLUMN sealed_at   timestamptz NOT NULL DEFAULT now();
UPDATE funding_token SET sealed_at = created_at;

CREATE TABLE funding_token_partner (
    token        text NOT NULL REFERENCES funding_token,
    partner_id   text NOT NULL REFERENCES partner,
    allowed_at   timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    PRIMARY KEY (token, partner_id)
);

-- Whose tokens a customer has, and what still stands under which master key.
CREATE INDEX funding_token_customer ON funding_token (customer_id, token);
CREATE INDEX funding_token_key ON funding_token (key_id, token);
-- The consents that name a token: a partner's permission is withdrawn under their locks.
CREATE INDEX consent_funding_token ON consent ((terms #>> '{payment,funding_token}'), partner_id);
