-- What may kill the stream that looks into it: begun, on record before it is looked into, and not ended. The same in both
-- schemas: the audit stream may have a server of its own. `place`: a partition of which nothing was committed since it was
-- placed, or one fact that is handled alone.
CREATE TABLE started_facts (
    group_name text NOT NULL,
    place      text NOT NULL,
    times      integer NOT NULL,
    started_at timestamptz NOT NULL,
    PRIMARY KEY (group_name, place)
);
CREATE TABLE audit.started_facts (LIKE started_facts INCLUDING ALL);

-- Commands that no order waits for, as they were issued and last issued again, until they are done or parked.
CREATE TABLE watched_commands (
    event_id       text PRIMARY KEY,
    aggregate_id   text NOT NULL,
    position       integer,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    body           bytea NOT NULL,
    headers        jsonb NOT NULL,
    destination    text NOT NULL,
    priority       smallint NOT NULL,
    occurred_at    timestamptz NOT NULL,
    issued_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX watched_commands_by_issue ON watched_commands (issued_at);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON watched_commands TO rushline_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON started_facts TO rushline_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_writer') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON audit.started_facts TO rushline_audit_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_reader') THEN
        GRANT SELECT ON audit.started_facts TO rushline_audit_reader;
    END IF;
END $$;
