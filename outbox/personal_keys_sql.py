"""Every SQL statement on the customers' keys, but for those that are part of placing an order in one trip."""

from typing import Final, LiteralString

# A customer's key: the oldest that lives, so that whoever asks gets the same.
LIVING: Final[LiteralString] = """
SELECT key_id, key FROM personal_keys WHERE customer_id = $1 AND key IS NOT NULL ORDER BY created_at, key_id LIMIT 1
"""

# One more key of a customer.
ADD: Final[LiteralString] = "INSERT INTO personal_keys (key_id, customer_id, key) VALUES ($1, $2, $3)"

# A key by its id, whether it lives or not.
FIND: Final[LiteralString] = "SELECT key_id, key, destroyed_at FROM personal_keys WHERE key_id = $1"

# All keys of a customer that live, gone for good. Which they were.
DESTROY: Final[LiteralString] = """
UPDATE personal_keys SET key = NULL, destroyed_at = $2 WHERE customer_id = $1 AND key IS NOT NULL RETURNING key_id
"""
