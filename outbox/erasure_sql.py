"""Every SQL statement that erases what is personal of a customer."""

from typing import Final, LiteralString

# The customer's orders, held until the transaction ends: their ids, and whether each has come to its end.
ORDERS: Final[LiteralString] = """
SELECT order_id, state IN ('delivered', 'payment_failed', 'cancelled') AS final FROM orders
WHERE customer_id = $1 ORDER BY order_id FOR UPDATE
"""

# Disputes that are not resolved: what was said in them is still needed.
OPEN_DISPUTES: Final[LiteralString] = "SELECT dispute_id FROM disputes WHERE customer_id = $1 AND state = 'open' ORDER BY 1"

# Nobody needs the addresses any more, nor what was once written into a reason in the customer's own words.
BLANK: Final[LiteralString] = """
UPDATE orders SET address = '{"street": "erased", "city": "erased", "postal_code": "erased", "latitude": 0, "longitude": 0}',
    reason = CASE WHEN reason LIKE 'customer_request:%' THEN 'customer_request' ELSE reason END
WHERE customer_id = $1 AND state IN ('delivered', 'payment_failed', 'cancelled')
"""
BLANK_FOUND: Final[LiteralString] = """
UPDATE support_orders SET reason = 'customer_request' WHERE customer_id = $1 AND reason LIKE 'customer_request:%'
"""

# Where the customer lives, as the fraud rules look back on it.
FORGET_PLACES: Final[LiteralString] = "DELETE FROM fraud_orders WHERE customer_id = $1"

# Letters that have not come to their end, or facts that a stream holds: what they hold is still to be sent, the address with it.
STILL_TO_SEND: Final[LiteralString] = """
SELECT l.letter_id AS what FROM dead_letters l JOIN orders o USING (order_id)
WHERE o.customer_id = $1 AND l.type = 'order.placed' AND l.state IN ('open', 'replaying')
UNION ALL
SELECT 'what ' || h.group_name || ' holds of ' || h.order_id FROM held_facts h JOIN orders o USING (order_id)
WHERE o.customer_id = $1 AND h.skipped_at IS NULL
LIMIT 1
"""

# The addresses in letters that have come to their end.
ERASE_LETTERS: Final[LiteralString] = "SELECT erase_letters($1)"
