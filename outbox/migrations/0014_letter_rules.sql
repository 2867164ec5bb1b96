-- What automatic fixes need beside their rules: how often for one letter, and which letters the rules have yet to look at.

ALTER TABLE letter_rules ADD COLUMN per_letter integer NOT NULL DEFAULT 3 CHECK (per_letter BETWEEN 1 AND 10);

-- Open letters that the rules have to look at, and when. A letter comes in by trigger, in the transaction that opens it, so
-- none is missed whatever order transactions commit in; it leaves once no rule is about it. A step reads the oldest few, so it
-- costs the same with a million open letters as with ten. `rule_id`: it waits for room under this rule's limit.
-- `changes`: moves when the letter comes in again, so that a decision about an older look cannot take it out.
CREATE TABLE letter_rule_queue (
    letter_id text PRIMARY KEY,
    due_at    timestamptz NOT NULL,
    rule_id   text,
    changes   integer NOT NULL DEFAULT 1
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX letter_rule_queue_due ON letter_rule_queue (due_at, letter_id);
CREATE INDEX letter_rule_queue_by_rule ON letter_rule_queue (rule_id, due_at) WHERE rule_id IS NOT NULL;

CREATE FUNCTION letter_for_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO letter_rule_queue AS q (letter_id, due_at) VALUES (NEW.letter_id, least(NEW.parked_at, clock_timestamp()))
    ON CONFLICT (letter_id) DO UPDATE SET due_at = excluded.due_at, rule_id = NULL, changes = q.changes + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER letter_is_new AFTER INSERT ON dead_letters FOR EACH ROW
    WHEN (NEW.state = 'open') EXECUTE FUNCTION letter_for_rules();
CREATE TRIGGER letter_is_open_again AFTER UPDATE ON dead_letters FOR EACH ROW
    WHEN (NEW.state = 'open' AND (OLD.state <> 'open' OR OLD.parked_at <> NEW.parked_at
                                  OR OLD.snoozed_until IS DISTINCT FROM NEW.snoozed_until))
    EXECUTE FUNCTION letter_for_rules();

-- Where a second look at all open letters has come to: begun anew when a rule changes or a group's snooze ends early. It walks
-- group by group, and only through groups that some rule can be about.
CREATE TABLE letter_rule_sweep (
    only_one       boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    round          bigint NOT NULL DEFAULT 1,        -- moves with each new beginning
    under_way      boolean NOT NULL DEFAULT true,
    fingerprint    text NOT NULL DEFAULT '',
    last_failed_at timestamptz,                      -- NULL: at the group's beginning
    letter_id      text NOT NULL DEFAULT ''
);
INSERT INTO letter_rule_sweep DEFAULT VALUES;

CREATE FUNCTION look_at_all_letters_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE letter_rule_sweep SET round = round + 1, under_way = true, fingerprint = '', last_failed_at = NULL, letter_id = '';
    RETURN NULL;
END $$;
CREATE TRIGGER rule_changed AFTER INSERT OR UPDATE ON letter_rules FOR EACH ROW
    EXECUTE FUNCTION look_at_all_letters_again();
CREATE TRIGGER group_is_awake AFTER UPDATE OF snoozed_until ON letter_groups FOR EACH ROW
    WHEN (OLD.snoozed_until > coalesce(NEW.snoozed_until, '-infinity')) EXECUTE FUNCTION look_at_all_letters_again();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON letter_rule_queue TO rushline_app;
        GRANT SELECT, UPDATE ON letter_rule_sweep TO rushline_app;
        -- A use that began to wait is written once more, when it ends.
        GRANT UPDATE (outcome) ON letter_rule_uses TO rushline_app;
    END IF;
END $$;
