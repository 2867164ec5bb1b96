"""The only place that says, before a command is sent again, whether a worker will be able to read it."""

from orders.commands import WakeOrder, read_command
from orders.errors import BadMessage
from orders.ids import is_id
from orders.names import queue_of


def unreadable(kind: str, version: int, body: bytes, *, routing_key: str, message_id: str) -> str:
    """Why no worker could read this command now; nothing where one could. The same questions that a worker asks."""
    if not kind:
        return "it does not say what type of command it is"
    try:
        command, read = read_command(kind, version, body)
    except BadMessage as error:
        return str(error)
    if routing_key.split(".", maxsplit=1)[0] != command.value.split(".")[0]:
        return f"{command.value} belongs in {queue_of(command).value}, and {routing_key!r} does not lead there"
    if not is_id(message_id, "cmd"):
        return "the message's id is not that of a command"
    if not is_id(read.order_id, "ord") and not isinstance(read, WakeOrder):
        return "order_id is not the id of an order"
    return ""
