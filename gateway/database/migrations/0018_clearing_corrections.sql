-- A corrected clearing record supersedes the one before, which is kept; what it settled is reversed and booked anew.
ALTER TABLE clearing_record
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    -- When the network made the file that the record is from: an older file changes nothing.
    ADD COLUMN created_at timestamptz;

CREATE TABLE clearing_superseded (
    network_id    text NOT NULL,
    cycle_id      text NOT NULL,
    record_no     integer NOT NULL,
    version       integer NOT NULL,
    kind          text NOT NULL,
    rrn           text NOT NULL,
    stan          integer NOT NULL,
    terminal_id   text NOT NULL,
    acceptor_id   text NOT NULL,
    amount_minor  bigint NOT NULL,
    currency      text NOT NULL,
    partner_id    text,
    payment_id    uuid,
    break_kind    text,
    break_detail  text,
    created_at    timestamptz,
    imported_at   timestamptz NOT NULL,
    superseded_at timestamptz NOT NULL,
    PRIMARY KEY (network_id, cycle_id, record_no, version)
);
CREATE INDEX clearing_superseded_payment ON clearing_superseded (partner_id, payment_id) WHERE payment_id IS NOT NULL;
CREATE TRIGGER clearing_superseded_append_only BEFORE UPDATE OR DELETE ON clearing_superseded
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One record settles a payment, and one payment is settled by a record of its own network under its own number.
CREATE UNIQUE INDEX clearing_settles_once ON clearing_record (partner_id, payment_id)
    WHERE payment_id IS NOT NULL AND break_kind IS NULL;
CREATE FUNCTION clearing_of_own_network() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM payment
        WHERE partner_id = NEW.partner_id AND payment_id = NEW.payment_id
          AND network_id = NEW.network_id AND rrn = NEW.rrn
    ) THEN
        RAISE EXCEPTION 'a clearing record names a payment of another network or number' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER clearing_own_network BEFORE INSERT OR UPDATE ON clearing_record
    FOR EACH ROW WHEN (NEW.payment_id IS NOT NULL) EXECUTE FUNCTION clearing_of_own_network();

-- A payment whose clearing was corrected is settled again: once in each round.
ALTER TABLE ledger_transfer
    ADD COLUMN round smallint NOT NULL DEFAULT 0,
    DROP CONSTRAINT ledger_transfer_pkey,
    ADD CONSTRAINT ledger_transfer_pkey PRIMARY KEY (partner_id, payment_id, kind, round),
    ADD CONSTRAINT ledger_rounds CHECK (round = 0 OR kind IN ('settled', 'settlement_undone'));
CREATE FUNCTION ledger_round() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The payment's row is locked by whoever posts, so nobody else counts meanwhile.
    NEW.round := (
        SELECT count(*) FROM ledger_transfer
        WHERE partner_id = NEW.partner_id AND payment_id = NEW.payment_id AND kind = 'settlement_undone'
    );
    IF NEW.kind = 'settlement_undone' AND NOT EXISTS (
        SELECT FROM ledger_transfer
        WHERE partner_id = NEW.partner_id AND payment_id = NEW.payment_id AND kind = 'settled' AND round = NEW.round
    ) THEN
        RAISE EXCEPTION 'only a settlement can be undone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_rounds BEFORE INSERT ON ledger_transfer
    FOR EACH ROW WHEN (NEW.kind IN ('settled', 'settlement_undone')) EXECUTE FUNCTION ledger_round();
