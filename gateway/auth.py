"""The only place for tokens: who calls, with which role, and which routes that role opens."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth
from litestar.security.jwt import Token as BaseToken
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware
from litestar.types import Guard

from adapters.settings import BadSettingError, Settings
from orders.facts import Actor
from orders.names import Role

ALGORITHM: Final = "HS256"
_MIN_SECRET: Final = 32
_MAX_SUBJECT: Final = 128
_ROLES: Final = frozenset(Role) - {Role.SYSTEM}


@dataclass
class Token(BaseToken):
    """The claims of a token of ours: `sub`, `role`, `exp`, `iat`."""

    role: str = ""


@lru_cache(maxsize=4096)
def _verified(token: str, secret: str) -> Token:
    """The claims of a token whose signature holds, so that a caller's signature is computed once and not for each request.

    Refusals are not remembered. A token that has expired since must be refused by whoever asks.
    """
    try:
        return Token.decode(token, secret, ALGORITHM)
    except (TypeError, ValueError, AttributeError) as error:  # signed, but of odd shape
        raise NotAuthorizedException("Invalid token") from error


class _Bearer(JWTAuthenticationMiddleware):
    """Litestar's middleware, which takes any scheme and verifies each time; we take `Bearer`, and verify a token once."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthorizedException("There is no bearer token")
        found = _verified(token.strip(), self.token_secret)
        if found.exp <= datetime.now(UTC):
            raise NotAuthorizedException("The token has expired")
        caller = await self.retrieve_user_handler(found, connection)
        if caller is None:
            raise NotAuthorizedException("Invalid token")
        return AuthenticationResult(user=caller, auth=found)


async def _caller(token: Token, _connection: ASGIConnection[Any, Any, Any, Any]) -> Actor | None:
    """Whom the token speaks for, or nobody where its role or subject cannot be."""
    if token.role not in _ROLES or not token.sub.isprintable() or len(token.sub) > _MAX_SUBJECT:
        return None
    return Actor(Role(token.role), token.sub)


def check_secret(settings: Settings) -> str:
    """The secret of the tokens. Raises `BadSettingError` where it is too short to be one."""
    if len(settings.jwt_secret) < _MIN_SECRET:
        raise BadSettingError(
            "RUSHLINE_JWT_SECRET",
            f"has {len(settings.jwt_secret)} characters, at least {_MIN_SECRET} are needed",
            "`rushline up` makes one for the local stack; elsewhere set one, `openssl rand -hex 32` makes it.",
        )
    return settings.jwt_secret


def bearer(settings: Settings) -> JWTAuth[Actor, Token]:
    """Litestar's JWT plugin. Routes with `opt={"exclude_from_auth": True}` are open."""
    return JWTAuth[Actor, Token](
        token_secret=check_secret(settings),
        algorithm=ALGORITHM,
        token_cls=Token,
        retrieve_user_handler=_caller,
        authentication_middleware_class=_Bearer,
        description="`rushline token --role customer --sub cus_…` makes a token for the local stack.",
    )


def issue(settings: Settings, role: Role, subject: str, lifetime: timedelta) -> str:
    """A token for this role and subject. Raises `BadSettingError`."""
    token = Token(sub=subject, role=role.value, exp=datetime.now(UTC) + lifetime)
    return token.encode(check_secret(settings), ALGORITHM)


def only(*roles: Role) -> Guard:
    """A guard for routes of these roles. Async, or Litestar would run it in a thread."""

    async def guard(connection: ASGIConnection[Any, Actor, Any, Any], _handler: BaseRouteHandler) -> None:
        if connection.user.type not in roles:
            raise PermissionDeniedException

    return guard
