"""What the application itself cannot do to a letter, whoever has its credentials."""

import pytest

from adapters.postgres import Pool, PostgresError

_REFUSED = (
    "UPDATE dead_letters SET body = 'forged'",
    "UPDATE dead_letters SET message_id = 'another'",
    "UPDATE dead_letters SET first_failed_at = now()",
    "UPDATE letter_edits SET body = 'forged'",
    "UPDATE letter_edits SET proposed_by = 'somebody else'",
    "UPDATE letter_history SET actor = 'somebody else'",
    "DELETE FROM dead_letters",
    "DELETE FROM letter_edits",
    "DELETE FROM letter_history",
    "DELETE FROM letter_rule_uses",
    "TRUNCATE dead_letters",
)


@pytest.mark.parametrize("statement", _REFUSED)
async def test_the_application_cannot_change_what_was_sent_or_who_did_what(pool: Pool, statement: str) -> None:
    with pytest.raises(PostgresError, match="permission denied"):
        await pool.execute(statement)
