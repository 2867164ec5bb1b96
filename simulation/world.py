"""The only place that starts the outside world's processes, and stops them: for `rushline simulate`, the demonstration, tests."""

import asyncio
import os
import random
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from adapters.process import leash
from adapters.settings import PREFIX, Settings
from simulation.country import CITIES, DRIVERS_PER_CITY, RESTAURANTS_PER_CITY, make_country
from simulation.seeding import seed_catalogue

HOST: Final = "127.0.0.1"
_READY_S: Final = 30.0
_LOOK_S: Final = 0.1
_TRIES: Final = 4
_TAKEN_PAUSE_S: Final = 1.0
_QUIET_PORTS: Final = range(20_000, 32_000)
_GRACE_S: Final = 5.0
_ASK_S: Final = 30.0
_LAST_WORDS: Final = 2_000


class WorldError(Exception):
    """The outside world cannot be started, or a part of it does not answer. `remedy`: what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem, self.remedy = problem, remedy


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where each part listens. `provider_control` stays open while an outage closes the provider's own port."""

    provider: int = 58101
    messaging: int = 58102
    restaurants: int = 58103
    drivers: int = 58104
    customers: int = 58105
    provider_control: int = 58106

    @classmethod
    def from_first(cls, first: int) -> Self:
        """Six ports in a row."""
        return cls(**{name: first + n for n, name in enumerate(cls.__struct_fields__)})

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody uses now, so that a second world can run beside the first.

        Below those that the system gives to outgoing connections: one of these might sit on any other port tomorrow.
        """
        candidates = random.sample(_QUIET_PORTS, len(_QUIET_PORTS))
        unused = (port for port in candidates if _is_free(port))
        return cls(**{name: next(unused) for name in cls.__struct_fields__})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which country, and how fast its clocks go."""

    seed: int = 1
    cities: int = CITIES
    restaurants_per_city: int = RESTAURANTS_PER_CITY
    drivers_per_city: int = DRIVERS_PER_CITY
    time_scale: float = 1.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How many customers come, for how long. `peak` 0: no rush. `settle_s`: how long to look afterwards how it all came out."""

    rate: float = 10.0
    peak: float = 0.0
    duration_s: float = 60.0
    patience_s: float = 90.0
    settle_s: float = 0.0
    record: Path | None = None


class World:
    """The processes of the outside world. Customers come when asked: see `start_customers`."""

    def __init__(self, settings: Settings, place: Place, ports: Ports, var_dir: Path) -> None:
        self._settings, self._place, self._ports, self._var_dir = settings, place, ports, var_dir
        self._commands: dict[str, list[str]] = {}
        self._stack = AsyncExitStack()
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    @classmethod
    async def start(
        cls, settings: Settings, *, place: Place | None = None, ports: Ports | None = None, var_dir: Path | None = None
    ) -> Self:
        """Write the country into the catalogue, then start all but the customers. Raises `WorldError`."""
        home = Path(settings.home) / "var"
        world = cls(settings, place or Place(time_scale=settings.time_scale), ports or Ports(), var_dir or home)
        await world._start()
        return world

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """The address of each part, by its name."""
        return {name: f"http://{HOST}:{port}" for name, port in msgspec.structs.asdict(self._ports).items()}

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which Rushline's processes find this world."""
        return {
            f"{PREFIX}STRIPE_API_BASE": self.urls["provider"],
            f"{PREFIX}SMS_API_BASE": self.urls["messaging"],
            f"{PREFIX}PUSH_API_BASE": self.urls["messaging"],
        }

    async def start_customers(self, load: Load) -> None:
        """Let them come."""
        flags = {
            "rate": load.rate, "peak": load.peak, "duration-s": load.duration_s,
            "patience-s": load.patience_s, "settle-s": load.settle_s, **({"record": load.record} if load.record else {}),
        }  # fmt: skip
        self._commands["customers"] = self._command("customers", "simulation.customers", flags | self._country_flags())
        await self._spawn("customers")

    async def customers(self, *, orders: bool = False) -> dict[str, Any]:
        """What the customers have seen so far; `finished` tells whether the evening is over."""
        return await self.ask("customers", f"/_sim/customers?orders={int(orders)}")

    async def ask(self, name: str, path: str) -> dict[str, Any]:
        """`GET` from a part. Raises `WorldError` where it does not answer."""
        return await self._request("GET", name, path, None)

    async def behave(self, name: str, **knobs: object) -> dict[str, Any]:
        """Turn knobs of a part, from now on. The provider's have to go by its control port."""
        return await self._request("POST", "provider_control" if name == "provider" else name, "/_sim/behaviour", knobs)

    async def stop(self) -> None:
        """Stop them all, customers first."""
        await asyncio.gather(*(_end(self.processes[name]) for name in ("customers",) if name in self.processes))
        await asyncio.gather(*(_end(process) for process in self.processes.values()))
        self.processes.clear()
        await self._stack.aclose()

    async def _start(self) -> None:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S))
        )
        try:
            place = self._place
            country = make_country(place.seed, place.cities, place.restaurants_per_city, place.drivers_per_city)
            seeding = seed_catalogue(self._settings, country, self.urls["restaurants"], self._place.time_scale)
            self._commands |= self._parts()
            await asyncio.gather(seeding, *(self._spawn(name) for name in self._parts()))
        except BaseException:
            await self.stop()
            raise

    def _parts(self) -> dict[str, list[str]]:
        place, urls = self._place, self.urls
        country = self._country_flags()
        roads = {"seed": place.seed, "cities": place.cities, "drivers-per-city": place.drivers_per_city}
        return {
            "provider": self._command("provider", "simulation.provider", {
                "seed": place.seed, "time-scale": place.time_scale, "control-port": self._ports.provider_control,
                "ledger": self._var_dir / "sim-ledger.jsonl",
                "webhook-url": f"{self._settings.base_url}/webhooks/stripe",
                "webhook-secret": self._settings.stripe_webhook_secret, "key": self._settings.stripe_api_key,
            }),
            "messaging": self._command("messaging", "simulation.messaging", {
                "seed": place.seed, "driver-push-url": f"{urls['drivers']}/push",
            }),
            "restaurants": self._command("restaurants", "simulation.restaurants", {
                **country, "customers-url": urls["customers"],
            }),
            "drivers": self._command("drivers", "simulation.drivers", {**roads, "time-scale": place.time_scale}),
        }  # fmt: skip

    def _country_flags(self) -> dict[str, object]:
        place = self._place
        return {
            "seed": place.seed, "cities": place.cities, "restaurants-per-city": place.restaurants_per_city,
            "time-scale": place.time_scale,
        }  # fmt: skip

    def _command(self, name: str, module: str, flags: dict[str, object]) -> list[str]:
        port = msgspec.structs.asdict(self._ports)[name]
        words = [f"--{flag}={value}" for flag, value in flags.items()]
        return [*leash(), sys.executable, "-m", module, f"--port={port}", *words]

    async def _spawn(self, name: str) -> None:
        log_path = self._var_dir / "log" / f"sim-{name}.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        known = {f"{PREFIX}PUBLIC_URL": self._settings.base_url, f"{PREFIX}JWT_SECRET": self._settings.jwt_secret}
        port = msgspec.structs.asdict(self._ports)[name]
        if await _answers(port):
            raise WorldError(
                f"port {port} for the {name} is in use",
                "Stop what listens there, or choose others: --first-port, --free-ports.",
            )
        for _ in range(_TRIES):
            with log_path.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *self._commands[name], env={**os.environ, **known}, stdin=asyncio.subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            self.processes[name] = process
            if await _is_up(process, port):
                return
            words = (log_path.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip().splitlines() or ["no word"])[-1]
            if "in use" not in words:
                break
            await asyncio.sleep(_TAKEN_PAUSE_S)  # an outgoing connection of somebody may sit on the port
        raise WorldError(f"the {name} did not start: {words}", f"See {log_path}.")

    async def _request(self, method: str, name: str, path: str, body: object) -> dict[str, Any]:
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(method, self.urls[name] + path, data=data) as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise WorldError(f"the {name} answered {answer.status}: {content[:200]!r}", f"See sim-{name}.log.")
                return msgspec.json.decode(content, type=dict[str, Any])
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorldError(f"the {name} does not answer: {type(error).__name__}", f"See sim-{name}.log.") from error


async def _is_up(process: asyncio.subprocess.Process, port: int) -> bool:
    ends = asyncio.get_running_loop().time() + _READY_S
    while process.returncode is None and asyncio.get_running_loop().time() < ends:
        if await _answers(port):
            return True
        await asyncio.sleep(_LOOK_S)
    return False


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
