-- What a proposal to link an identity is bound to: whose it was before.
CREATE INDEX identity_link_ended ON identity_link (issuer, subject, unlinked_at) WHERE unlinked_at IS NOT NULL;
