-- name: held
SELECT 'partner' AS holder, partner_id AS owner, kid, jwk::text AS jwk, disabled_at FROM partner_key
UNION ALL
SELECT 'affiliate', affiliate_id, kid, jwk::text, disabled_at FROM affiliate_key
UNION ALL
SELECT 'recipient', org_code, kid, jwk::text, disabled_at FROM recipient_key
ORDER BY holder, owner, kid
