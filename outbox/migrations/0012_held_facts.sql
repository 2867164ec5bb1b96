-- Held facts: what failed is woken through the delay tiers, parked as a letter when its attempts are spent, and released or
-- passed over when an operator says so. The same in both schemas: the audit stream may have a server of its own.

-- `message_key`: the record's key; NULL where it had none. `attempts`: how often it failed, 0 for what only waits.
-- `first_failed_at`: since it was held, or since it was sent again. `parked_at`: nothing wakes it but an operator.
-- `letter_id`, `trail`: the letter that it is, and what its letter says of the failure. `reported_at`: the letter was written
-- (only where that cannot be done in the transaction of the batch). `discarded_at`: an operator decided that it will never take
-- effect; its stream passes its position at its turn and then sets `skipped_at`.
ALTER TABLE held_facts
    ADD COLUMN message_key bytea,
    ADD COLUMN first_failed_at timestamptz,
    ADD COLUMN parked_at timestamptz,
    ADD COLUMN reported_at timestamptz,
    ADD COLUMN letter_id text,
    ADD COLUMN trail jsonb,
    ADD COLUMN discarded_at timestamptz;
ALTER TABLE audit.held_facts
    ADD COLUMN message_key bytea,
    ADD COLUMN first_failed_at timestamptz,
    ADD COLUMN parked_at timestamptz,
    ADD COLUMN reported_at timestamptz,
    ADD COLUMN letter_id text,
    ADD COLUMN trail jsonb,
    ADD COLUMN discarded_at timestamptz;

-- What was held before now has its chance, and then its letter.
ALTER TABLE held_facts ALTER COLUMN attempts SET DEFAULT 0;
ALTER TABLE audit.held_facts ALTER COLUMN attempts SET DEFAULT 0;
UPDATE held_facts SET attempts = 0, message_key = convert_to(order_id, 'UTF8'),
    wake_at = CASE WHEN kind <> 'gap' AND skipped_at IS NULL THEN now() END;
UPDATE audit.held_facts SET attempts = 0, message_key = convert_to(order_id, 'UTF8'),
    wake_at = CASE WHEN kind <> 'gap' AND skipped_at IS NULL THEN now() END;

CREATE INDEX held_facts_skipped ON held_facts (skipped_at) WHERE skipped_at IS NOT NULL;
CREATE INDEX held_facts_skipped ON audit.held_facts (skipped_at) WHERE skipped_at IS NOT NULL;
CREATE INDEX held_facts_to_report ON audit.held_facts (group_name, parked_at) WHERE parked_at IS NOT NULL AND reported_at IS NULL;

-- What operators decided about facts that are held in another schema, perhaps on another server: written with the letter's
-- own change, fetched by the stream that holds them.
CREATE TABLE held_decisions (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id    text NOT NULL,
    group_name   text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    kafka_offset bigint NOT NULL,
    decision     text NOT NULL CHECK (decision IN ('wake', 'skip')),
    decided_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX held_decisions_by_group ON held_decisions (group_name, id);

-- The other way round: letters whose facts came to their end, written in the transaction in which they did.
CREATE TABLE audit.settled_letters (
    letter_id  text PRIMARY KEY,
    group_name text NOT NULL,
    outcome    text NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT now()
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, DELETE ON held_decisions TO rushline_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_writer') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON audit.settled_letters TO rushline_audit_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_reader') THEN
        GRANT SELECT ON audit.settled_letters TO rushline_audit_reader;
    END IF;
END $$;
