-- Made from gateway/database/roles.py by `mypay migrate roles --write`. Do not edit.
-- In the gateway's database, as mypay_owner, after its migrations; `mypay migrate` does so itself.

-- From nothing: what is not granted below is not granted.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        -- Rights on columns go with those on the table.
        SELECT format('REVOKE ALL ON TABLE public.%I FROM PUBLIC, mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly', relname)
        FROM pg_catalog.pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        UNION ALL
        SELECT format('REVOKE ALL ON SEQUENCE public.%I FROM PUBLIC, mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly', relname)
        FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
        UNION ALL
        SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly', oid::regprocedure)
        FROM pg_catalog.pg_proc WHERE pronamespace = 'public'::regnamespace
    LOOP
        EXECUTE statement;
    END LOOP;
    -- Whatever the caller's search path is, a function means the tables that it was written for.
    FOR statement IN
        SELECT format('ALTER FUNCTION %s SET search_path = public, pg_temp', oid::regprocedure)
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_catalog.unnest(proconfig) AS c (pair) WHERE c.pair LIKE 'search_path=%')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

GRANT SELECT ON public.partner TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (active) ON public.partner TO mypay_operator;
GRANT SELECT ON public.partner_key TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (disabled_at) ON public.partner_key TO mypay_operator;
GRANT SELECT ON public.merchant TO mypay_initiation, mypay_execution, mypay_schedule, mypay_portability, mypay_readonly;
GRANT SELECT (merchant_id, mcc, name_location) ON public.merchant TO mypay_sharing, mypay_marketing;
GRANT SELECT (merchant_id, name, mcc) ON public.merchant TO mypay_portability_api;
GRANT SELECT (merchant_id, acceptor_id, former_acceptors) ON public.merchant TO mypay_settlement;
GRANT SELECT, INSERT, UPDATE (acceptor_id, name_location, mcc, networks, active, name, former_acceptors) ON public.merchant TO mypay_operator;
GRANT SELECT (token, customer_id, key_id, nonce, ciphertext) ON public.funding_token TO mypay_execution;
GRANT SELECT (token, customer_id) ON public.funding_token TO mypay_consents, mypay_portability_api;
GRANT SELECT, INSERT, UPDATE (customer_id, key_id, nonce, ciphertext, sealed_at) ON public.funding_token TO mypay_operator;
GRANT SELECT (token, customer_id, key_id, created_at, sealed_at) ON public.funding_token TO mypay_readonly;
GRANT SELECT ON public.funding_token_partner TO mypay_consents, mypay_execution, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (allowed_at, withdrawn_at) ON public.funding_token_partner TO mypay_operator;
GRANT SELECT ON public.identity_link TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (unlinked_at) ON public.identity_link TO mypay_operator;
GRANT SELECT ON public.revoked_issuer_key TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability, mypay_readonly;
GRANT SELECT, INSERT ON public.revoked_issuer_key TO mypay_operator;
GRANT SELECT ON public.trust_policy TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability, mypay_readonly;
GRANT SELECT, INSERT ON public.trust_policy TO mypay_operator;
GRANT SELECT ON public.recipient TO mypay_portability, mypay_readonly;
GRANT SELECT (org_code, active, certificate_sha256) ON public.recipient TO mypay_portability_api;
GRANT SELECT, INSERT, UPDATE (active, certificate_sha256) ON public.recipient TO mypay_operator;
GRANT SELECT ON public.recipient_key TO mypay_portability, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (disabled_at) ON public.recipient_key TO mypay_operator;
GRANT SELECT ON public.affiliate TO mypay_sharing, mypay_marketing, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (active) ON public.affiliate TO mypay_operator;
GRANT SELECT ON public.affiliate_key TO mypay_sharing, mypay_marketing, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (disabled_at) ON public.affiliate_key TO mypay_operator;
GRANT SELECT ON public.affiliate_approval TO mypay_sharing, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (legal_basis, approved_by, approved_at, withdrawn_at) ON public.affiliate_approval TO mypay_operator;
GRANT SELECT, UPDATE (lock_only) ON public.consent TO mypay_initiation, mypay_execution, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing;
GRANT SELECT, INSERT, UPDATE (version, status, terms, valid_until, changes, status_changed_at, ended_purposes) ON public.consent TO mypay_consents, mypay_schedule, mypay_operator;
GRANT SELECT (partner_id, consent_id, customer_id) ON public.consent TO mypay_disclosure;
GRANT SELECT ON public.consent TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (issuer, subject, jti, level, authenticated_at) ON public.consent_version TO mypay_consents, mypay_schedule, mypay_operator;
GRANT SELECT ON public.consent_version TO mypay_readonly;
GRANT SELECT, INSERT ON public.consent_purpose_end TO mypay_schedule;
GRANT INSERT ON public.consent_purpose_end TO mypay_consents, mypay_operator;
GRANT SELECT ON public.consent_purpose_end TO mypay_execution, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_readonly;
GRANT SELECT, INSERT ON public.consent_command TO mypay_consents, mypay_schedule, mypay_operator;
GRANT SELECT ON public.consent_command TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (reserved_minor, reserved_count, consumed_minor, consumed_count) ON public.consent_usage TO mypay_execution;
GRANT SELECT ON public.consent_usage TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (authenticated_at) ON public.consent_authentication TO mypay_execution;
GRANT SELECT ON public.consent_authentication TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT ON public.used_assertion TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability;
GRANT SELECT ON public.used_assertion TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (status, accessed_at) ON public.portability_request TO mypay_portability;
GRANT SELECT (partner_id, consent_id, rcv_org_code, status, accessed_at), UPDATE (accessed_at) ON public.portability_request TO mypay_portability_api;
GRANT SELECT, UPDATE (status, exports, next_due_at) ON public.portability_request TO mypay_schedule;
GRANT SELECT ON public.portability_request TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (accessed_at) ON public.portability_access TO mypay_portability_api;
GRANT SELECT ON public.portability_access TO mypay_readonly;
GRANT SELECT ON public.portability_request_gone TO mypay_portability, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (state, attempt, leased_by, leased_until, snapshot_at, receipt, reason_code, reason_text, changed_at, sent_chunks, sent_version) ON public.portability_export TO mypay_portability;
GRANT SELECT, INSERT (partner_id, request_id, number, consent_id, state, search_from, created_at, changed_at) ON public.portability_export TO mypay_schedule;
GRANT SELECT ON public.portability_export TO mypay_readonly;
GRANT SELECT, UPDATE (offers, held_minor, used_minor) ON public.campaign TO mypay_marketing;
GRANT SELECT ON public.campaign TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (body, exclusive_group, budget_minor, budget_offers, active, applied_at) ON public.campaign TO mypay_operator;
GRANT SELECT, INSERT (customer_id), UPDATE (lock_only) ON public.marketing_customer TO mypay_marketing;
GRANT SELECT ON public.marketing_customer TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (state, uses, used_minor, ended_at) ON public.offer TO mypay_marketing;
GRANT SELECT ON public.offer TO mypay_readonly;
GRANT SELECT, INSERT ON public.offer_use TO mypay_marketing;
GRANT SELECT ON public.offer_use TO mypay_readonly;
GRANT SELECT, INSERT ON public.marketing_table TO mypay_marketing;
GRANT SELECT ON public.marketing_table TO mypay_readonly;
GRANT SELECT, INSERT ON public.marketing_table_payment TO mypay_marketing;
GRANT SELECT ON public.marketing_table_payment TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (state, version, reason_code, reason_text, network_code, approval_code, changed_at) ON public.payment TO mypay_initiation, mypay_schedule;
GRANT SELECT ON public.payment TO mypay_consents, mypay_portability, mypay_archive, mypay_operator, mypay_readonly;
GRANT SELECT (partner_id, payment_id, consent_id, consent_version, merchant_id, operation, amount_minor, currency, network_id, rrn) ON public.payment TO mypay_disclosure;
GRANT SELECT (partner_id, payment_id, consent_id, merchant_id, operation, state, amount_minor, currency, approval_code, decided_at, changed_at, funding_token, original_payment_id) ON public.payment TO mypay_portability_api;
GRANT SELECT (partner_id, payment_id, consent_id, merchant_id, operation, state, amount_minor, currency, funding_token, decided_at) ON public.payment TO mypay_sharing;
GRANT SELECT (partner_id, payment_id, consent_id, merchant_id, operation, state, amount_minor, currency, decided_at) ON public.payment TO mypay_marketing;
GRANT SELECT, INSERT, UPDATE (state, version, reason_code, reason_text, network_code, approval_code, changed_at, consent_version, funding_token, network_id, terminal_id, stan, rrn, transmitted_at, limit_windows, decided_at, sent_by) ON public.payment TO mypay_execution;
GRANT SELECT, UPDATE (state, version, reason_code, reason_text, network_code, approval_code, changed_at) ON public.payment TO mypay_settlement;
GRANT SELECT ON public.archived_payment TO mypay_initiation, mypay_execution, mypay_settlement, mypay_schedule, mypay_readonly;
GRANT SELECT, INSERT (status, begun_at), UPDATE (status, payments, sha256, written_at, moved_at) ON public.archive_file TO mypay_archive;
GRANT SELECT ON public.archive_file TO mypay_readonly;
GRANT SELECT, INSERT ON public.refusal TO mypay_initiation, mypay_consents, mypay_execution, mypay_portability;
GRANT SELECT ON public.refusal TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (stan, transmitted_at, attempts, next_attempt_at, leased_by, leased_until, queued_at, closed_at, last_code) ON public.reversal TO mypay_initiation, mypay_execution, mypay_schedule;
GRANT SELECT, UPDATE (next_attempt_at) ON public.reversal TO mypay_operator;
GRANT SELECT ON public.reversal TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (stan, transmitted_at, attempts, next_attempt_at, leased_by, leased_until, queued_at, closed_at, last_code) ON public.inquiry TO mypay_execution;
GRANT SELECT, UPDATE (next_attempt_at) ON public.inquiry TO mypay_operator;
GRANT SELECT ON public.inquiry TO mypay_readonly;
GRANT INSERT ON public.late_answer TO mypay_execution;
GRANT SELECT ON public.late_answer TO mypay_operator, mypay_readonly;
GRANT INSERT ON public.ledger_transfer TO mypay_execution, mypay_settlement;
GRANT SELECT ON public.ledger_transfer TO mypay_operator, mypay_readonly;
GRANT SELECT ON public.ledger_posting TO mypay_readonly;
GRANT SELECT, INSERT ON public.cancellation TO mypay_initiation;
GRANT SELECT ON public.cancellation TO mypay_execution, mypay_readonly;
GRANT SELECT, UPDATE (effect, reason_code, reason_text, is_open) ON public.cancellation TO mypay_schedule;
GRANT SELECT, INSERT ON public.cancellation_answer TO mypay_initiation;
GRANT SELECT ON public.cancellation_answer TO mypay_readonly;
GRANT INSERT ON public.scheduled_order TO mypay_initiation;
GRANT SELECT ON public.scheduled_order TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (look_at, held_for, dispatches, closed_at) ON public.scheduled_order TO mypay_schedule;
GRANT SELECT, INSERT, UPDATE (status, version, occurrences, next_due_at, changed_at, reason_code, reason_text) ON public.standing_order TO mypay_initiation;
GRANT SELECT, UPDATE (status, version, occurrences, next_due_at, changed_at, reason_code, reason_text) ON public.standing_order TO mypay_schedule;
GRANT SELECT ON public.standing_order TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (dispatched_at) ON public.bulk TO mypay_initiation;
GRANT SELECT ON public.bulk TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (partner_id, payment_id, break_kind, break_detail, version, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency, created_at, imported_at) ON public.clearing_record TO mypay_settlement;
GRANT SELECT ON public.clearing_record TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT ON public.clearing_superseded TO mypay_settlement;
GRANT SELECT ON public.clearing_superseded TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT ON public.break_resolution TO mypay_operator;
GRANT SELECT ON public.break_resolution TO mypay_readonly;
GRANT SELECT, INSERT ON public.share TO mypay_sharing;
GRANT SELECT ON public.share TO mypay_operator, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (key_ids, uses, fields, notice_id, cause, noticed_at, erase_by, confirmed_at, confirmation, erased, remind_at, reminders) ON public.share_holder TO mypay_sharing;
GRANT SELECT ON public.share_holder TO mypay_schedule, mypay_readonly;
GRANT SELECT, UPDATE (confirmed_at, confirmation, remind_at) ON public.share_holder TO mypay_operator;
GRANT SELECT, UPDATE (tx, id, followed) ON public.sharing_place TO mypay_sharing;
GRANT SELECT, UPDATE (followed) ON public.sharing_place TO mypay_operator;
GRANT SELECT ON public.sharing_place TO mypay_readonly;
GRANT INSERT (topic, key, event_id, event_type, occurred_at, traceparent, body) ON public.outbox TO mypay_initiation, mypay_consents, mypay_execution, mypay_settlement, mypay_schedule, mypay_portability, mypay_portability_api;
GRANT SELECT (tx, id, topic, key, event_type), INSERT (topic, key, event_id, event_type, occurred_at, traceparent, body) ON public.outbox TO mypay_marketing;
GRANT SELECT, INSERT (id, topic, key, event_id, event_type, occurred_at, traceparent, body) ON public.outbox TO mypay_sharing;
GRANT SELECT, INSERT (topic, key, event_id, event_type, occurred_at, body) ON public.outbox TO mypay_disclosure;
GRANT SELECT, INSERT (topic, key, event_id, event_type, occurred_at, traceparent, body) ON public.outbox TO mypay_operator;
GRANT SELECT ON public.outbox TO mypay_relay, mypay_readonly;
GRANT SELECT, UPDATE (tx, id, reads_bundles) ON public.outbox_cursor TO mypay_relay;
GRANT SELECT ON public.outbox_cursor TO mypay_operator, mypay_readonly;
GRANT SELECT ON public.bundles_read TO mypay_sharing, mypay_readonly;
GRANT SELECT, INSERT, DELETE ON public.outbox_parked TO mypay_relay;
GRANT SELECT ON public.outbox_parked TO mypay_readonly;
GRANT SELECT ON public.outbox_reader TO mypay_readonly;
GRANT INSERT ON public.disclosure_entry TO mypay_disclosure;
GRANT SELECT ON public.disclosure_entry TO mypay_readonly;
GRANT INSERT ON public.disclosure_content TO mypay_disclosure;
GRANT SELECT (seq, partner_id, customer_id, occurred_at, recipient, kind, purpose) ON public.disclosure_content TO mypay_schedule;
GRANT SELECT ON public.disclosure_content TO mypay_readonly;
GRANT SELECT ON public.disclosure_link TO mypay_readonly;
GRANT SELECT ON public.disclosure_told TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (told_until, next_at) ON public.disclosure_notice TO mypay_schedule;
GRANT SELECT ON public.disclosure_notice TO mypay_readonly;
GRANT SELECT, UPDATE (seq) ON public.disclosure_notice_cursor TO mypay_schedule;
GRANT SELECT ON public.disclosure_notice_cursor TO mypay_readonly;
GRANT INSERT ON public.disclosure_block TO mypay_disclosure;
GRANT SELECT ON public.disclosure_block TO mypay_readonly;
GRANT INSERT ON public.disclosure_root TO mypay_disclosure;
GRANT SELECT ON public.disclosure_root TO mypay_readonly;
GRANT SELECT, UPDATE (tx, id, seq, entry_hash, root_number, root_hash, root_seq, period_start, frontier, reads_bundles) ON public.disclosure_head TO mypay_disclosure;
GRANT SELECT ON public.disclosure_head TO mypay_readonly;
GRANT SELECT ON public.disclosure_destruction TO mypay_readonly;
GRANT SELECT ON public.data_destruction TO mypay_readonly;
GRANT SELECT ON public.outbox_partition TO mypay_readonly;
GRANT SELECT ON public.operating_state TO mypay_schedule, mypay_readonly;
GRANT SELECT, INSERT ON public.operator_action TO mypay_operator;
GRANT SELECT ON public.operator_action TO mypay_readonly;
GRANT SELECT, INSERT ON public.operator_proposal TO mypay_operator;
GRANT SELECT ON public.operator_proposal TO mypay_readonly;
GRANT SELECT, INSERT ON public.operator_decision TO mypay_operator;
GRANT SELECT ON public.operator_decision TO mypay_readonly;
GRANT SELECT ON public.console_user TO mypay_console;
GRANT SELECT (name, role, created_at, disabled_at), INSERT, UPDATE (role, password_hash, disabled_at) ON public.console_user TO mypay_operator;
GRANT SELECT (name, role, created_at, disabled_at) ON public.console_user TO mypay_readonly;
GRANT SELECT, INSERT, UPDATE (seen_at), DELETE ON public.console_session TO mypay_console;
GRANT SELECT (name), DELETE ON public.console_session TO mypay_operator;
GRANT SELECT (name, role, is_local, began_at, seen_at) ON public.console_session TO mypay_readonly;
GRANT SELECT, INSERT ON public.console_sign_in TO mypay_console;
GRANT SELECT ON public.console_sign_in TO mypay_readonly;
GRANT SELECT ON public.network_pause TO mypay_initiation, mypay_execution, mypay_schedule, mypay_readonly;
GRANT SELECT, INSERT, DELETE ON public.network_pause TO mypay_operator;
GRANT SELECT ON public.network_status TO mypay_initiation, mypay_schedule, mypay_readonly;
GRANT SELECT, INSERT, UPDATE (is_open, reported_at), DELETE ON public.network_status TO mypay_execution;
GRANT SELECT, INSERT (cluster_id) ON public.kafka_cluster TO mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing;
GRANT SELECT ON public.kafka_cluster TO mypay_readonly;
GRANT SELECT, INSERT (cluster_id, moved_at), UPDATE (cluster_id, noted_at, moved_at) ON public.kafka_cluster TO mypay_operator;
GRANT SELECT ON public.schema_migration TO mypay_initiation, mypay_consents, mypay_execution, mypay_relay, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_console, mypay_archive, mypay_operator, mypay_readonly;
GRANT USAGE ON SEQUENCE public.payment_number TO mypay_execution;
GRANT USAGE ON SEQUENCE public.follow_up_number TO mypay_initiation, mypay_execution, mypay_schedule;
GRANT USAGE ON SEQUENCE public.outbox_number TO mypay_initiation, mypay_consents, mypay_execution, mypay_settlement, mypay_schedule, mypay_disclosure, mypay_portability, mypay_portability_api, mypay_sharing, mypay_marketing, mypay_operator;
GRANT EXECUTE ON FUNCTION public.make_outbox_partitions(integer, bigint) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.drop_outbox_partition(timestamptz) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.purge_unpartitioned_events(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.purge_used_assertions(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.destroy_disclosures(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.destroy_silent_portability(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.destroy_old_shares(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.destroy_old_contributions(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.destroy_old_operating(timestamptz, integer) TO mypay_schedule;
GRANT EXECUTE ON FUNCTION public.archivable(text[], uuid[], timestamptz) TO mypay_archive;
GRANT EXECUTE ON FUNCTION public.archive_payments(bigint, text[], uuid[], bytea[], timestamptz) TO mypay_archive;
