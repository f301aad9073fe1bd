-- What nobody needs any more of shares, of aggregates and of what operators did goes, with evidence that it did. Each
-- function holds to a least age: whoever calls cannot ask for less.

-- Rows of these are destroyed by the functions below; none is ever changed.
DROP TRIGGER append_only ON share;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON share
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER append_only ON marketing_table_payment;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON marketing_table_payment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER operator_action_append_only ON operator_action;
CREATE TRIGGER operator_action_append_only BEFORE UPDATE OR TRUNCATE ON operator_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER operator_proposal_append_only ON operator_proposal;
CREATE TRIGGER operator_proposal_append_only BEFORE UPDATE OR TRUNCATE ON operator_proposal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER operator_decision_append_only ON operator_decision;
CREATE TRIGGER operator_decision_append_only BEFORE UPDATE OR TRUNCATE ON operator_decision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER console_sign_in_append_only ON console_sign_in;
CREATE TRIGGER console_sign_in_append_only BEFORE UPDATE OR TRUNCATE ON console_sign_in
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE INDEX IF NOT EXISTS share_holder_erased ON share_holder (confirmed_at) WHERE confirmed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS operator_proposal_expires ON operator_proposal (expires_at);
CREATE INDEX IF NOT EXISTS console_sign_in_at ON console_sign_in (at);

-- Rounds of sharing that ended three years ago or earlier: the affiliate has confirmed that it erased. The last round of
-- a consent that may still be used stays, for the next one is numbered by it, and named by its number.
CREATE FUNCTION destroy_old_shares(asked timestamptz, at_most integer) RETURNS SETOF data_destruction
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH rule AS MATERIALIZED (
        SELECT least(asked, now() - interval '3 years') AS before
    ), over AS MATERIALIZED (
        SELECT h.partner_id, h.consent_id, h.affiliate_id, h.round, h.notice_id
        FROM share_holder h
        WHERE h.confirmed_at <= (SELECT before FROM rule)
          AND (EXISTS (SELECT FROM share_holder l
                       WHERE (l.partner_id, l.consent_id, l.affiliate_id) = (h.partner_id, h.consent_id, h.affiliate_id)
                         AND l.round > h.round)
               OR NOT EXISTS (SELECT FROM consent c
                              WHERE (c.partner_id, c.consent_id) = (h.partner_id, h.consent_id)
                                AND c.status IN ('AWAU', 'AUTH', 'SUSP')))
        ORDER BY h.confirmed_at LIMIT at_most
        FOR UPDATE OF h SKIP LOCKED
    ), shares AS (
        DELETE FROM share s USING over o
        WHERE (s.partner_id, s.consent_id, s.affiliate_id, s.round)
            = (o.partner_id, o.consent_id, o.affiliate_id, o.round)
        RETURNING 1
    ), rounds AS (
        DELETE FROM share_holder h USING over o
        WHERE (h.partner_id, h.consent_id, h.affiliate_id, h.round)
            = (o.partner_id, o.consent_id, o.affiliate_id, o.round)
    ), gone (kind, rows, digest) AS (
        SELECT 'rounds of sharing', count(*), sha256(string_agg(uuid_send(notice_id), ''::bytea ORDER BY notice_id))
        FROM over
        UNION ALL
        SELECT 'shares with affiliates', count(*), NULL FROM shares
    )
    INSERT INTO data_destruction (kind, rows, rule, before, digest)
    SELECT kind, rows, 'three years after the erasure', (SELECT before FROM rule), digest FROM gone WHERE rows > 0
    RETURNING *
$$;
REVOKE ALL ON FUNCTION destroy_old_shares(timestamptz, integer) FROM PUBLIC;

-- What published tables counted, once no later table of their week comes any more: a table's all at once, for a part of it
-- would be compared with as if it were the whole.
CREATE FUNCTION destroy_old_contributions(asked timestamptz, at_most integer) RETURNS SETOF data_destruction
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH rule AS MATERIALIZED (
        SELECT least(asked, now() - interval '60 days') AS before
    ), old AS MATERIALIZED (
        SELECT t.week, t.currency, t.revision FROM marketing_table t
        WHERE t.published_at <= (SELECT before FROM rule)
          AND EXISTS (SELECT FROM marketing_table_payment p
                      WHERE (p.week, p.currency, p.revision) = (t.week, t.currency, t.revision))
        ORDER BY t.published_at, t.week, t.currency, t.revision LIMIT at_most
    ), gone AS (
        DELETE FROM marketing_table_payment p USING old o
        WHERE (p.week, p.currency, p.revision) = (o.week, o.currency, o.revision)
        RETURNING p.payment_id
    )
    INSERT INTO data_destruction (kind, rows, rule, before, digest)
    SELECT 'payments of aggregates', count(*), 'sixty days after the table', (SELECT before FROM rule),
           sha256(string_agg(uuid_send(payment_id), ''::bytea ORDER BY payment_id))
    FROM gone HAVING count(*) > 0
    RETURNING *
$$;
REVOKE ALL ON FUNCTION destroy_old_contributions(timestamptz, integer) FROM PUBLIC;

-- What operators did and proposed, and who signed in at the console: subjects are often customers and their consents.
CREATE FUNCTION destroy_old_operating(asked timestamptz, at_most integer) RETURNS SETOF data_destruction
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH rule AS MATERIALIZED (
        SELECT least(asked, now() - interval '3 years') AS before
    ), old_actions AS MATERIALIZED (
        SELECT a.action_id, a.phase FROM operator_action a
        WHERE a.at <= (SELECT before FROM rule) ORDER BY a.at LIMIT at_most
    ), actions AS (
        DELETE FROM operator_action a USING old_actions o
        WHERE (a.action_id, a.phase) = (o.action_id, o.phase) RETURNING 1
    ), old_proposals AS MATERIALIZED (
        SELECT p.proposal_id FROM operator_proposal p LEFT JOIN operator_decision d USING (proposal_id)
        WHERE p.expires_at <= (SELECT before FROM rule)
          AND (d.decided_at IS NULL OR d.decided_at <= (SELECT before FROM rule))
        ORDER BY p.expires_at LIMIT at_most
    ), decisions AS (
        DELETE FROM operator_decision d USING old_proposals o WHERE d.proposal_id = o.proposal_id RETURNING 1
    ), proposals AS (
        -- A decision is there until the statement ends: the reference is looked at then.
        DELETE FROM operator_proposal p USING old_proposals o WHERE p.proposal_id = o.proposal_id RETURNING 1
    ), sign_ins AS (
        DELETE FROM console_sign_in s WHERE s.ctid = ANY (ARRAY(
            SELECT i.ctid FROM console_sign_in i WHERE i.at <= (SELECT before FROM rule) ORDER BY i.at LIMIT at_most))
        RETURNING 1
    ), gone (kind, rows) AS (
        SELECT 'operators'' actions', count(*) FROM actions
        UNION ALL SELECT 'operators'' proposals', count(*) FROM proposals
        UNION ALL SELECT 'decisions on proposals', count(*) FROM decisions
        UNION ALL SELECT 'attempts to sign in', count(*) FROM sign_ins
    )
    INSERT INTO data_destruction (kind, rows, rule, before)
    SELECT kind, rows, 'three years after it was done', (SELECT before FROM rule) FROM gone WHERE rows > 0
    RETURNING *
$$;
REVOKE ALL ON FUNCTION destroy_old_operating(timestamptz, integer) FROM PUBLIC;
