-- name: numbers
SELECT (SELECT last_value FROM payment_number) AS payments, (SELECT last_value FROM follow_up_number) AS follow_ups

-- name: pass_numbers
-- Numbers that were given out after the moment that was restored to must never be given out again. $3: one that was.
SELECT setval('payment_number', greatest((SELECT last_value FROM payment_number), $3::bigint) + $1),
       setval('follow_up_number', (SELECT last_value FROM follow_up_number) + $2)

-- name: consents
SELECT partner_id, consent_id, status, changes FROM consent
JOIN unnest($1::text[], $2::text[]) AS k (partner_id, consent_id) USING (partner_id, consent_id)

-- name: begun
SELECT min(at) AS at FROM operator_action WHERE phase = 'begun' AND command = 'restore begin' AND at > $1

-- name: standing
-- Key by key (OFFSET keeps it so), also by a plan that was made while the table was young.
SELECT k.partner_id, k.payment_id, f.state FROM unnest($1::text[], $2::uuid[]) AS k (partner_id, payment_id)
CROSS JOIN LATERAL (
    SELECT p.state FROM payment p WHERE (p.partner_id, p.payment_id) = (k.partner_id, k.payment_id)
    UNION ALL
    SELECT a.state FROM archived_payment a WHERE (a.partner_id, a.payment_id) = (k.partner_id, k.payment_id)
    OFFSET 0
) AS f
