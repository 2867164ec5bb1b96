"""The only place that knows where a restaurant wants to be told: the `Restaurants` port over signed webhooks."""

from collections.abc import Callable
from datetime import datetime

from adapters.postgres import Pool
from adapters.webhooks import PeerRefused, PeerUnavailable, Webhooks, web_address
from orders.errors import PeerAway
from workers import sql
from workers.hosts import Hosts
from workers.ports import RestaurantUnreachable, UnknownRestaurant
from workers.store import reaching_the_database


class WebhookRestaurants:
    """Looks the address up each time, so that a new one or a new secret counts from the next message on."""

    def __init__(self, pool: Pool, webhooks: Webhooks, hosts: Hosts, clock: Callable[[], datetime]) -> None:
        self._pool, self._webhooks, self._hosts, self._clock = pool, webhooks, hosts, clock

    async def tell(self, restaurant_id: str, message_id: str, body: bytes) -> None:
        with reaching_the_database():
            row = await self._pool.fetchrow(sql.WEBHOOK_OF, restaurant_id)
        if row is None:
            raise UnknownRestaurant(f"{restaurant_id} is not in the catalogue")
        url = row["webhook_url"]
        async with self._hosts.calling(web_address(url).authority) as call:
            try:
                await self._webhooks.send(url, row["webhook_secret"], message_id, body, self._clock())
            except PeerUnavailable as error:
                # A quick refusal may be a blink, and is tried again within a moment. A host that is silent is not asked twice.
                if call.failed(silent=error.timed_out):
                    raise PeerAway(str(error)) from error
                raise RestaurantUnreachable(str(error)) from error
            except PeerRefused as error:
                call.answered()
                raise RestaurantUnreachable(str(error)) from error
            call.answered()
