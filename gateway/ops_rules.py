"""The routes of automatic fixes: list them, write them, try them on past letters, switch them off, see what they did."""

from typing import Final

from litestar import get, post, put
from litestar.params import FromPath, JSONBody

from gateway.bodies import Json
from gateway.context import Gate, Gateway, HttpRequest
from gateway.docs import problems
from gateway.ops_answers import shown
from gateway.ops_desk import changed, rule_id_of
from gateway.ops_filter import DryRun
from gateway.ops_rule_answers import DryRunAnswer, RuleAnswer, Rules, UseAnswer, Uses, rule_answer
from gateway.ops_schemas import PutRule, SwitchRule, TryRule, rule_of
from gateway.paging import Cursor, Limit, after_time, cursor_at
from outbox.letters import rules, uses


@get("/rules", responses=problems())
async def list_rules(gateway: Gate) -> Rules:
    """All automatic fixes, in the order in which they are asked: people's before those of the library."""
    now = gateway.now()
    async with gateway.connection("the rules cannot be read") as conn:
        return Rules(rules=[rule_answer(rule, now) for rule in await rules.list_rules(conn, now=now)])


@get("/rules/{rule_id:str}", responses=problems(404))
async def show_rule(gateway: Gate, rule_id: FromPath[str]) -> RuleAnswer:
    """An automatic fix."""
    now = gateway.now()
    async with gateway.connection("the rule cannot be read") as conn:
        return rule_answer(await rules.get(conn, rule_id_of(rule_id), now=now), now)


@put("/rules", dto=Json[PutRule], responses=problems(404, 409, 413, 415))
async def put_rule(request: HttpRequest, gateway: Gate, data: JSONBody[PutRule], *, dry_run: DryRun = False) -> RuleAnswer:
    """Write an automatic fix, or change the one of this name. Try it on past letters first: …/rules/dry-run."""
    now = gateway.now()
    async with changed(gateway, dry_run=dry_run) as conn:
        rule = await rules.put(conn, rule_of(data), actor=request.user.id, now=now, version=data.version)
    return rule_answer(rule, now)


@post("/rules/dry-run", dto=Json[TryRule], status_code=200, responses=problems(409, 413, 415))
async def try_rule(gateway: Gate, data: JSONBody[TryRule]) -> DryRunAnswer:
    """What a rule would have done to past letters, and would do now. It need not be written for that, and nothing is."""
    async with gateway.connection("the letters cannot be read") as conn:
        told = await rules.dry_run(conn, rule_of(data.rule, "rule."), now=gateway.now(), days=data.days)
    return shown(DryRunAnswer, told)


@get("/rules/{rule_id:str}/uses", responses=problems(404))
async def list_uses(gateway: Gate, rule_id: FromPath[str], limit: Limit = 20, cursor: Cursor = None) -> Uses:
    """What a rule did, the latest first."""
    before = after_time(cursor) if cursor is not None else None
    async with gateway.connection("the uses cannot be read") as conn:
        await rules.get(conn, rule_id_of(rule_id), now=gateway.now())
        page = await uses.of_rule(conn, rule_id, before=before, limit=limit)
    following = cursor_at(page[-1].at, page[-1].letter_id) if len(page) == limit else None
    return Uses(uses=[shown(UseAnswer, use) for use in page], next_cursor=following)


@post("/rules/{rule_id:str}/enable", dto=Json[SwitchRule], status_code=200, responses=problems(404, 409, 413, 415))
async def enable_rule(
    request: HttpRequest,
    gateway: Gate,
    rule_id: FromPath[str],
    data: JSONBody[SwitchRule | None] = None,
    *,
    dry_run: DryRun = False,
) -> RuleAnswer:
    """Switch an automatic fix on."""
    return await _switch(request, gateway, rule_id, data, enabled=True, dry_run=dry_run)


@post("/rules/{rule_id:str}/disable", dto=Json[SwitchRule], status_code=200, responses=problems(404, 409, 413, 415))
async def disable_rule(
    request: HttpRequest,
    gateway: Gate,
    rule_id: FromPath[str],
    data: JSONBody[SwitchRule | None] = None,
    *,
    dry_run: DryRun = False,
) -> RuleAnswer:
    """Switch an automatic fix off. It acts no more from the moment this answers."""
    return await _switch(request, gateway, rule_id, data, enabled=False, dry_run=dry_run)


async def _switch(
    request: HttpRequest, gateway: Gateway, rule_id: str, data: SwitchRule | None, *, enabled: bool, dry_run: bool
) -> RuleAnswer:
    now = gateway.now()
    async with changed(gateway, dry_run=dry_run) as conn:
        rule = await rules.switch(
            conn, rule_id_of(rule_id), enabled=enabled, version=data.version if data else None, actor=request.user.id, now=now
        )
    return rule_answer(rule, now)


ROUTES: Final = (list_rules, show_rule, put_rule, try_rule, list_uses, enable_rule, disable_rule)
