-- name: insert
-- A place is another record's once its topic was made again, or the gateway has moved to another Kafka: what was refused
-- there before any record that can still come is not this one. Its row stays, and the new one is written as PLACE@2.
WITH still AS (
    SELECT greatest(now() - interval '30 days', (SELECT moved_at FROM kafka_cluster)) AS since
)
INSERT INTO refusal (partner_id, reference, order_id, reason_code, reason_text)
SELECT u.partner_id, u.place || CASE WHEN earlier.records > 0 THEN '@' || earlier.records + 1 ELSE '' END,
       u.order_id, u.reason_code, u.reason_text
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
         AS u (partner_id, place, order_id, reason_code, reason_text),
     LATERAL (
         SELECT count(*) AS records FROM refusal r
         WHERE r.partner_id = u.partner_id AND r.refused_at <= (SELECT since FROM still)
           AND r.reference = ANY (u.place || ARRAY[u.place || '@2', u.place || '@3', u.place || '@4', u.place || '@5'])
     ) earlier
ON CONFLICT (partner_id, reference) DO NOTHING
RETURNING split_part(reference, '@', 1) AS reference

-- name: find
-- Few were refused: whether it was this record or one of before is asked of these alone.
WITH still AS (
    SELECT greatest(now() - interval '30 days', (SELECT moved_at FROM kafka_cluster)) AS since
)
SELECT record.reference FROM refusal
JOIN unnest($1::text[], $2::text[]) AS record (partner_id, reference) USING (partner_id, reference)
WHERE refused_at > (SELECT since FROM still)
   OR EXISTS (
       SELECT FROM refusal r
       WHERE r.partner_id = record.partner_id AND r.refused_at > (SELECT since FROM still)
         AND r.reference = ANY (ARRAY[record.reference || '@2', record.reference || '@3', record.reference || '@4', record.reference || '@5']))
