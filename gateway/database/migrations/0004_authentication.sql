-- Who a customer is to each identity provider. Reference data, small beside payments: in a distributed setting it is
-- copied everywhere. Rows are never deleted: an ended link tells who was whom, and when.
CREATE TABLE identity_link (
    issuer      text NOT NULL,
    subject     text NOT NULL,
    customer_id text NOT NULL,
    linked_at   timestamptz NOT NULL,
    unlinked_at timestamptz CONSTRAINT identity_link_ends_after_it_began CHECK (unlinked_at >= linked_at)
);
-- One customer an identity at a time; one customer may have any number of identities, of both groups.
CREATE UNIQUE INDEX identity_link_standing ON identity_link (issuer, subject) WHERE unlinked_at IS NULL;
CREATE INDEX identity_link_customer ON identity_link (customer_id);

-- Assertions that were used, so that none is used twice. The one key on a payment's way that does not begin with
-- partner_id: single use holds across partners, and jti alone spreads evenly where this table must be distributed. The
-- dynamic link names partner and order, so a provider that keeps its jti unique could be served by
-- (partner_id, issuer, jti) as well; one that does not would go unnoticed. Written once, read on conflict, deleted in
-- bulk when Kafka can no longer replay what used it.
CREATE TABLE used_assertion (
    jti        text NOT NULL,
    issuer     text NOT NULL,
    partner_id text NOT NULL,
    used_by    uuid NOT NULL,        -- the payment, or the command on a consent
    keep_until timestamptz NOT NULL,
    PRIMARY KEY (jti, issuer)
);
CREATE INDEX used_assertion_keep_until ON used_assertion (keep_until);

-- Providers' keys that operators have revoked, whatever the providers' key sets say.
CREATE TABLE revoked_issuer_key (
    issuer     text NOT NULL,
    kid        text NOT NULL,
    revoked_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, kid)
);
