"""The only place that knows where a restaurant wants to be told: the `Restaurants` port over signed webhooks."""

from collections.abc import Callable
from datetime import datetime

from adapters.postgres import Pool
from adapters.webhooks import PeerRefused, PeerUnavailable, Webhooks
from workers import sql
from workers.ports import RestaurantUnreachable, UnknownRestaurant
from workers.store import reaching_the_database


class WebhookRestaurants:
    """Looks the address up each time, so that a new one or a new secret counts from the next message on."""

    def __init__(self, pool: Pool, webhooks: Webhooks, clock: Callable[[], datetime]) -> None:
        self._pool, self._webhooks, self._clock = pool, webhooks, clock

    async def tell(self, restaurant_id: str, message_id: str, body: bytes) -> None:
        with reaching_the_database():
            row = await self._pool.fetchrow(sql.WEBHOOK_OF, restaurant_id)
        if row is None:
            raise UnknownRestaurant(f"{restaurant_id} is not in the catalogue")
        try:
            await self._webhooks.send(row["webhook_url"], row["webhook_secret"], message_id, body, self._clock())
        except (PeerRefused, PeerUnavailable) as error:
            raise RestaurantUnreachable(str(error)) from error
