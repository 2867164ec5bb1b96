"""Every SQL statement of the gateway's own. Orders change through outbox/transition.py, not here."""

from typing import Final, LiteralString

# All that placing an order must know, in one trip: a stored answer to this key, restaurant and prices, the customer's own key.
BEGIN_PLACING: Final[LiteralString] = """
SELECT k.body_hash, k.answer, p.key_id, p.key AS personal_key, r.name, r.city, r.time_zone, r.hours, r.currency, r.delivery_fee,
       (SELECT jsonb_agg(m) FROM menu_items m WHERE m.restaurant_id = $3 AND m.item_id = ANY ($4::text[])) AS menu
FROM (VALUES (1)) AS one LEFT JOIN idempotency_keys k ON k.customer_id = $1 AND k.key = $2
LEFT JOIN restaurants r ON r.restaurant_id = $3
LEFT JOIN LATERAL (SELECT key_id, key FROM personal_keys WHERE customer_id = $1 AND key IS NOT NULL
                   ORDER BY created_at, key_id LIMIT 1) p ON true
"""

# A customer's orders, newest first, from where the last page ended.
CUSTOMER_ORDERS: Final[LiteralString] = """
SELECT to_jsonb(o) AS order_row FROM orders o
WHERE customer_id = $1 AND (placed_at, order_id) < ($2, $3) ORDER BY placed_at DESC, order_id DESC LIMIT $4
"""

# A restaurant's orders, newest first, from where the last page ended; of one state or of all.
RESTAURANT_ORDERS: Final[LiteralString] = """
SELECT to_jsonb(o) AS order_row FROM orders o
WHERE restaurant_id = $1 AND (placed_at, order_id) < ($2, $3) AND ($5::text IS NULL OR state = $5)
ORDER BY placed_at DESC, order_id DESC LIMIT $4
"""

# The newest event of one type of an order.
LAST_EVENT: Final[LiteralString] = """
SELECT fact FROM order_events WHERE order_id = $1 AND type = $2 AND occurred_at >= $3 ORDER BY position DESC LIMIT 1
"""

# Whether this actor has once been granted this step.
GRANTED: Final[LiteralString] = """
SELECT EXISTS (SELECT FROM order_events WHERE order_id = $1 AND type = $2
               AND convert_from(fact, 'UTF8')::jsonb #>> '{actor,id}' = $3)
"""

# What is new about watched orders: events above each one's position, and whether nothing more will come.
NEWS: Final[LiteralString] = """
SELECT w.order_id, e.position, e.fact, o.state = ANY ($3::text[]) AND o.pending = '{}' AS done
FROM unnest($1::text[], $2::integer[]) AS w (order_id, position) JOIN orders o USING (order_id)
LEFT JOIN order_events e ON e.order_id = w.order_id AND e.position > w.position AND e.occurred_at >= o.placed_at
WHERE o.position > w.position OR (o.state = ANY ($3::text[]) AND o.pending = '{}')
ORDER BY w.order_id, e.position
"""

# Restaurants of a city, or of all, from where the last page ended.
RESTAURANTS: Final[LiteralString] = """
SELECT restaurant_id, name, city, latitude, longitude, time_zone, hours, currency, delivery_fee FROM restaurants
WHERE ($1::text IS NULL OR city = $1) AND restaurant_id > $2 ORDER BY restaurant_id LIMIT $3
"""

# A restaurant with its menu, all of it or some items.
RESTAURANT: Final[LiteralString] = """
SELECT restaurant_id, name, city, time_zone, hours, currency, delivery_fee,
       (SELECT coalesce(jsonb_agg(m ORDER BY m.item_id), '[]') FROM menu_items m
        WHERE m.restaurant_id = r.restaurant_id AND ($2::text[] IS NULL OR m.item_id = ANY ($2))) AS menu
FROM restaurants r WHERE restaurant_id = $1
"""

# A restaurant's hours, replaced.
PUT_HOURS: Final[LiteralString] = """
UPDATE restaurants SET hours = $2, time_zone = coalesce($3, time_zone) WHERE restaurant_id = $1
RETURNING restaurant_id, time_zone, hours
"""

# A restaurant's menu, replaced: what is not given is taken off.
PUT_MENU: Final[LiteralString] = """
WITH gone AS (DELETE FROM menu_items WHERE restaurant_id = $1 AND item_id <> ALL ($2::text[]))
INSERT INTO menu_items (restaurant_id, item_id, name, unit_price, available)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::boolean[])
ON CONFLICT (restaurant_id, item_id) DO UPDATE
    SET name = excluded.name, unit_price = excluded.unit_price, available = excluded.available
"""

# A driver's status and place. Busy is the transition's to set and to end; no row where a busy driver would go offline.
PUT_STATUS: Final[LiteralString] = """
UPDATE drivers SET status = CASE WHEN status = 'busy' THEN 'busy' ELSE $2::text END, latitude = $3,
    longitude = $4, updated_at = now()
WHERE driver_id = $1 AND NOT (status = 'busy' AND $2 = 'offline') RETURNING status
"""

# A driver's place.
PUT_LOCATION: Final[LiteralString] = """
UPDATE drivers SET latitude = $2, longitude = $3, updated_at = now()
WHERE driver_id = $1 RETURNING status
"""

# A driver and what they carry.
DRIVER: Final[LiteralString] = """
SELECT d.status, to_jsonb(o) AS order_row, CASE WHEN o.order_id IS NOT NULL THEN jsonb_build_object(
    'order_id', o.order_id, 'status', o.state, 'item_count', o.item_count, 'delivery_address', o.address,
    'restaurant', jsonb_build_object('restaurant_id', r.restaurant_id, 'name', r.name,
                                     'latitude', r.latitude, 'longitude', r.longitude)) END AS assignment
FROM drivers d LEFT JOIN orders o ON o.order_id = d.order_id LEFT JOIN restaurants r ON r.restaurant_id = o.restaurant_id
WHERE d.driver_id = $1
"""

# The order that a payment intent says it is for, if that is so.
ORDER_OF_INTENT: Final[LiteralString] = """
SELECT to_jsonb(o) AS order_row FROM orders o WHERE order_id = $1 AND payment_intent_id = $2
"""

# Whether the server answers.
READY: Final[LiteralString] = "SELECT 1"
