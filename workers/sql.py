"""Every SQL statement of the workers."""

from typing import Final, LiteralString

# A driver for an order: who is reserved for it already, or else the nearest who is free in its city, at most so many degrees
# on the ground from the restaurant (on the plane: more, the farther from the equator), and has not had it before. A
# reservation that ran out, or whose order has found another driver, counts as none.
RESERVE_DRIVER: Final[LiteralString] = """
WITH place AS (
    SELECT r.latitude, r.longitude, spot_of(r.latitude, r.longitude) AS spot
    FROM restaurants r WHERE r.restaurant_id = $2
), mine AS (
    UPDATE drivers SET reserved_until = clock_timestamp() + $5::interval
    WHERE reserved_for = $1 AND status = 'available' AND driver_id <> ALL ($4::text[])
    RETURNING driver_id, latitude, longitude
), nearest AS (
    SELECT driver_id FROM drivers d
    WHERE status = 'available' AND city = $3 AND driver_id <> ALL ($4::text[]) AND NOT EXISTS (SELECT FROM mine)
        AND spot <@ (SELECT circle(spot, coalesce($6::double precision, 360) / cos(radians(latitude))) FROM place)
        AND (reserved_for IS NULL OR reserved_until < clock_timestamp()
             OR EXISTS (SELECT FROM drivers taken WHERE taken.order_id = d.reserved_for))
    ORDER BY spot <-> (SELECT spot FROM place) LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE drivers d SET reserved_for = $1, reserved_until = clock_timestamp() + $5::interval
    FROM nearest n WHERE d.driver_id = n.driver_id
    RETURNING d.driver_id, d.latitude, d.longitude
)
SELECT d.driver_id, d.latitude, d.longitude, p.latitude AS from_latitude, p.longitude AS from_longitude
FROM (SELECT * FROM mine UNION ALL SELECT * FROM claimed) d CROSS JOIN place p ORDER BY d.driver_id LIMIT 1
"""

# Where a restaurant wants its webhooks, and what they are signed with.
WEBHOOK_OF: Final[LiteralString] = "SELECT webhook_url, webhook_secret FROM restaurants WHERE restaurant_id = $1"

# A command that changed no order is done, and these messages say so: once, however many did it.
FINISH_AND_TELL: Final[LiteralString] = """
WITH done AS (INSERT INTO inbox (message_id, done_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING message_id)
INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers, broker,
                    destination, priority, occurred_at)
SELECT row.* FROM done CROSS JOIN unnest(
    $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::smallint[], $9::bytea[], $10::jsonb[], $11::text[],
    $12::text[], $13::smallint[], $14::timestamptz[]) AS row
"""

# What a stream's group holds of an order since this attempt is due now. A later failure has a wake-up of its own.
WAKE_HELD: Final[LiteralString] = """
UPDATE held_facts SET wake_at = clock_timestamp()
WHERE group_name = $1 AND order_id = $2 AND coalesce(position, 0) = $3 AND attempts = $4 AND kind = 'failed'
    AND parked_at IS NULL AND skipped_at IS NULL AND wake_at > clock_timestamp()
"""

# A suspect is begun alone. Starts that lie far apart have nothing to do with each other: counting begins anew.
BEGIN_ALONE: Final[LiteralString] = """
INSERT INTO started_commands AS s (message_key, times, started_at) VALUES ($1, 1, $2)
ON CONFLICT (message_key) DO UPDATE
SET times = CASE WHEN s.started_at < $2::timestamptz - $3::interval THEN 1 ELSE s.times + 1 END, started_at = $2
RETURNING times
"""

# A suspect has come to an end of some kind, and its process lives.
END_ALONE: Final[LiteralString] = "DELETE FROM started_commands WHERE message_key = $1"

# Suspects that never came again.
SWEEP_ALONE: Final[LiteralString] = "DELETE FROM started_commands WHERE started_at < $1"
