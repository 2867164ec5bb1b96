-- What the archive needs of the ledger: which ranges it has, and the one way in which events leave it: whole ranges that are
-- verified in the archive, by a function that looks again itself.

-- The ranges of time that the ledger is cut into, and where each lies: partitions, a hypertable's chunks, and the weeks that
-- went to the default partition.
CREATE FUNCTION audit.event_ranges(OUT place text, OUT from_at timestamptz, OUT to_at timestamptz) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('audit.events_default') IS NULL THEN
        RETURN QUERY EXECUTE $sql$
            SELECT format('%I.%I', chunk_schema, chunk_name), range_start, range_end FROM timescaledb_information.chunks
            WHERE hypertable_schema = 'audit' AND hypertable_name = 'events' ORDER BY range_start
        $sql$;
        RETURN;
    END IF;
    RETURN QUERY
        SELECT format('audit.%I', c.relname), b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN LATERAL (
            SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds) b
        WHERE i.inhparent = 'audit.events'::regclass AND b.bounds IS NOT NULL
        UNION ALL
        SELECT 'audit.events_default', w.week AT TIME ZONE 'UTC', (w.week + INTERVAL '7 days') AT TIME ZONE 'UTC'
        FROM (SELECT DISTINCT date_trunc('week', d.sequenced_at AT TIME ZONE 'UTC') AS week FROM audit.events_default d) w
        ORDER BY 2;
END $$;

-- Drop the events of a verified archive, all of its range at once; how many went. An archive that is cold already: none.
CREATE FUNCTION audit.drop_events(p_archive text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_archive audit.archives;
    v_place text;
    v_count bigint;
    v_first bigint;
    v_end bigint;
BEGIN
    SELECT * INTO v_archive FROM audit.archives WHERE name = p_archive FOR UPDATE;
    IF v_archive.state = 'cold' THEN
        RETURN 0;
    ELSIF v_archive.state IS DISTINCT FROM 'verified' THEN
        RAISE EXCEPTION 'the archive % is %: its events stay', p_archive, coalesce(v_archive.state, 'unknown') USING ERRCODE = 'RL005';
    ELSIF v_archive.to_at > now() OR v_archive.end_leaf > (SELECT size FROM audit.tree) THEN
        RAISE EXCEPTION 'the range of % is not closed: its events stay', p_archive USING ERRCODE = 'RL005';
    END IF;
    SELECT place INTO v_place FROM audit.event_ranges() WHERE from_at = v_archive.from_at AND to_at = v_archive.to_at;
    IF v_place IS NULL THEN
        RAISE EXCEPTION 'the ledger has no range like that of %', p_archive USING ERRCODE = 'RL005';
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', v_place);  -- nothing is added meanwhile; reading goes on
    EXECUTE format('SELECT count(*), min(leaf_index), max(leaf_index) + 1 FROM %s WHERE sequenced_at >= $1 AND sequenced_at < $2', v_place)
        INTO v_count, v_first, v_end USING v_archive.from_at, v_archive.to_at;
    IF (v_count, v_first, v_end) IS DISTINCT FROM (v_archive.end_leaf - v_archive.first_leaf, v_archive.first_leaf, v_archive.end_leaf) THEN
        RAISE EXCEPTION 'the ledger has % events, leaves % to %, where % has leaves % to %: they stay',
            v_count, v_first, v_end, p_archive, v_archive.first_leaf, v_archive.end_leaf USING ERRCODE = 'RL005';
    END IF;
    IF v_place = 'audit.events_default' THEN
        DELETE FROM audit.events_default WHERE sequenced_at >= v_archive.from_at AND sequenced_at < v_archive.to_at;
    ELSIF to_regclass('audit.events_default') IS NULL THEN
        EXECUTE format('SELECT %s.drop_chunks(''audit.events'', older_than => $1, newer_than => $2)',
                       (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'timescaledb'))
            USING v_archive.to_at, v_archive.from_at;
    ELSE
        EXECUTE format('DROP TABLE %s', v_place);
    END IF;
    UPDATE audit.archives SET state = 'cold', cold_at = clock_timestamp() WHERE name = p_archive;
    RETURN v_count;
END $$;

-- Forget an archive that was found damaged while its events are still in the ledger: it is written again.
CREATE FUNCTION audit.forget_archive(p_archive text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = audit, pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM audit.archives WHERE name = p_archive AND state = 'written' RETURNING 1)
    SELECT EXISTS (SELECT FROM gone)
$$;

-- An archive's life goes one way. That its events left the ledger is said by nobody but the function that dropped them, and
-- a statement about what was dropped is never another one afterwards.
CREATE FUNCTION audit.one_way() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_states constant text[] := ARRAY['written', 'verified', 'cold', 'dropped'];
    v_step constant integer := array_position(v_states, NEW.state) - array_position(v_states, OLD.state);
BEGIN
    IF v_step NOT IN (0, 1)
        OR (v_step = 1 AND NEW.state = 'cold'
            AND NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE'))
        OR (v_step = 1 AND NEW.state = 'dropped' AND OLD.statement IS NULL)
        OR (OLD.statement IS NOT NULL AND NEW.statement IS DISTINCT FROM OLD.statement)
        OR (NEW.statement IS NOT NULL AND NEW.state NOT IN ('cold', 'dropped')) THEN
        RAISE EXCEPTION 'the archive % is %: it cannot become % like this', OLD.name, OLD.state, NEW.state USING ERRCODE = 'RL005';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_way BEFORE UPDATE ON audit.archives FOR EACH ROW EXECUTE FUNCTION audit.one_way();

REVOKE ALL ON FUNCTION audit.event_ranges, audit.drop_events, audit.forget_archive FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_writer') THEN
        GRANT EXECUTE ON FUNCTION audit.event_ranges, audit.drop_events, audit.forget_archive TO rushline_audit_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_audit_reader') THEN
        GRANT SELECT ON audit.heads, audit.broken_events TO rushline_audit_reader;
    END IF;
END $$;
