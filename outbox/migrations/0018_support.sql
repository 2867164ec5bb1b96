-- Disputes, what support searches by, and what erasure must reach.

-- A dispute of an order. What people say about a customer is encrypted with the customer's key (outbox/personal_keys.py), as in
-- the audit trail: `claim` and `answer` are {data, key_id}. `version` moves with each change: two people cannot both be right.
CREATE TABLE disputes (
    dispute_id  text PRIMARY KEY,
    order_id    text NOT NULL,
    customer_id text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('never_arrived', 'items', 'late', 'other')),
    state       text NOT NULL CHECK (state IN ('open', 'refunded', 'refused')),
    currency    text NOT NULL,
    claim       jsonb,
    opened_by   text NOT NULL,
    opened_at   timestamptz NOT NULL,
    assigned_to text,
    assigned_at timestamptz,
    reason      text,            -- why it was refused: a word of a closed list; or the refund's reason
    amount      bigint CHECK (amount > 0),
    answer      jsonb,
    resolved_by text,
    resolved_at timestamptz,
    version     integer NOT NULL DEFAULT 1,
    CHECK ((state = 'open') = (resolved_at IS NULL)),
    CHECK ((state = 'refunded') = (amount IS NOT NULL))
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX disputes_one_open ON disputes (order_id) WHERE state = 'open';
CREATE INDEX disputes_by_order ON disputes (order_id, opened_at);
CREATE INDEX disputes_by_state ON disputes (state, opened_at DESC, dispute_id DESC);
CREATE INDEX disputes_by_time ON disputes (opened_at DESC, dispute_id DESC);
CREATE INDEX disputes_by_assignee ON disputes (assigned_to, opened_at DESC, dispute_id DESC) WHERE assigned_to IS NOT NULL;
CREATE INDEX disputes_by_customer ON disputes (customer_id, opened_at DESC);

-- What was brought forward: words (encrypted), or something kept elsewhere, by its digest.
CREATE TABLE dispute_evidence (
    evidence_id text PRIMARY KEY,
    dispute_id  text NOT NULL REFERENCES disputes,
    number      integer NOT NULL,
    personal    jsonb,           -- {data, key_id}: text, reference and media type
    sha256      text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    added_by    text NOT NULL,
    added_at    timestamptz NOT NULL,
    UNIQUE (dispute_id, number)
);

-- Search: each filter has an index that ends in the order of the pages; those without one narrow what these find.
CREATE INDEX support_orders_page ON support_orders (placed_at DESC, order_id DESC);
CREATE INDEX support_orders_by_state ON support_orders (state, placed_at DESC, order_id DESC);
CREATE INDEX support_orders_disputed ON support_orders (placed_at DESC, order_id DESC) WHERE disputed;
CREATE INDEX support_orders_flagged ON support_orders (placed_at DESC, order_id DESC) WHERE flagged;
DROP INDEX support_orders_by_time;

-- What is held of one order, whoever holds it.
CREATE INDEX held_facts_of_order ON held_facts (order_id);
CREATE INDEX held_facts_of_order ON audit.held_facts (order_id);

-- How many orders are disputed, beside how many are completed.
ALTER TABLE analytics_minutes ADD COLUMN disputed bigint NOT NULL DEFAULT 0;

-- Rules that have expired are said to have, once.
ALTER TABLE letter_rules ADD COLUMN expiry_told boolean NOT NULL DEFAULT false;

-- An erased customer's key stays destroyed, whoever holds the application's rights; an old one is never replaced by another.
CREATE FUNCTION personal_keys_guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.key IS NOT NULL THEN
        RAISE EXCEPTION 'a personal key can be destroyed, and nothing else' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_destroyed BEFORE UPDATE ON personal_keys FOR EACH ROW EXECUTE FUNCTION personal_keys_guard();

-- Letters keep what was sent for ever, and nobody but their owner changes it. This is the one exception: the address in the facts
-- about the orders of a customer who is erased, once their letters have come to their end.
CREATE FUNCTION erase_letters(p_customer text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
DECLARE
    v_erased integer;
BEGIN
    UPDATE dead_letters l SET body = '{"erased": true}', version = version + 1
    FROM orders o WHERE o.customer_id = p_customer AND l.order_id = o.order_id AND l.type = 'order.placed'
        AND l.state IN ('resolved', 'discarded') AND l.body <> '{"erased": true}';
    GET DIAGNOSTICS v_erased = ROW_COUNT;
    RETURN v_erased;
END $$;
REVOKE ALL ON FUNCTION erase_letters FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT EXECUTE ON FUNCTION erase_letters TO rushline_app;
        GRANT SELECT, INSERT, UPDATE (state, assigned_to, assigned_at, reason, amount, answer, resolved_by, resolved_at, version)
            ON disputes TO rushline_app;
        GRANT SELECT, INSERT ON dispute_evidence TO rushline_app;
        GRANT DELETE ON fraud_orders TO rushline_app;  -- the coordinates of whoever is erased
    END IF;
END $$;
