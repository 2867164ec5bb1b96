"""The only place where the routes become one application: plugins, limits, documents."""

from importlib.metadata import version
from typing import Final

from litestar import Litestar
from litestar.di import Provide

from gateway import audit_log, catalogue, customers, docs, drivers, machines, ops, problems, restaurants, support
from gateway.auth import bearer
from gateway.context import Gateway
from gateway.edge import Edge

_ROUTERS: Final = (
    customers.router,
    catalogue.router,
    restaurants.router,
    drivers.router,
    support.router,
    ops.router,
    audit_log.router,
    machines.router,
)


def litestar_app(gateway: Gateway) -> Litestar:
    """The Litestar application. Raises `BadSettingError` where the secret of the tokens is too short."""
    return Litestar(
        route_handlers=list(_ROUTERS),
        dependencies={"gateway": Provide(lambda: gateway, sync_to_thread=False)},
        plugins=[problems.plugin()],
        on_app_init=[bearer(gateway.settings).on_app_init],
        openapi_config=docs.openapi(version("rushline")),
        request_max_body_size=gateway.settings.max_body_bytes,
        logging_config=None,
    )


def create_app(gateway: Gateway) -> Edge:
    """The ASGI application that is served."""
    return Edge(litestar_app(gateway))
