-- Compensation: which restaurants have had an order, and which step of it set its deadline.

-- `past_restaurants`: those that lost the order, so that it never goes back to one of them. `deadline_position`: of the
-- event that set the deadline. The command about a deadline names it, so that what is recorded beside the order's way
-- (a refund, an intervention) does not make that command stale.
ALTER TABLE orders
    ADD COLUMN past_restaurants text[] NOT NULL DEFAULT '{}',
    ADD COLUMN deadline_position integer;
UPDATE orders SET deadline_position = position WHERE deadline IS NOT NULL;

-- As in 0001_orders.sql, with the two columns.
CREATE OR REPLACE FUNCTION apply_transition(
    p_order jsonb, p_expected integer,
    p_positions integer[], p_event_ids text[], p_audit_ids text[], p_types text[], p_actions text[], p_facts bytea[], p_audits bytea[],
    p_fact_version smallint, p_headers jsonb, p_at timestamptz,
    p_command_ids text[], p_command_types text[], p_command_positions integer[], p_command_bodies bytea[],
    p_command_priorities smallint[], p_command_version smallint,
    p_done_command text, p_take_driver text, p_free_driver text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v orders := jsonb_populate_record(NULL::orders, p_order);
BEGIN
    -- The order first: its row lock and the transaction's number come before any outbox id.
    IF p_expected = 0 THEN
        INSERT INTO orders SELECT v.*;
    ELSE
        UPDATE orders o SET
            restaurant_id = v.restaurant_id, state = v.state, money = v.money, position = v.position,
            chain_head = v.chain_head, items = v.items, item_count = v.item_count, subtotal = v.subtotal,
            delivery_fee = v.delivery_fee, total = v.total, captured = v.captured, refunded = v.refunded,
            payment_intent_id = coalesce(v.payment_intent_id, o.payment_intent_id),
            payment_attempt = greatest(v.payment_attempt, o.payment_attempt),
            past_restaurants = v.past_restaurants, driver_id = v.driver_id, past_drivers = v.past_drivers,
            reason = v.reason, pending = v.pending, deadline = v.deadline, deadline_at = v.deadline_at,
            deadline_position = v.deadline_position, updated_at = v.updated_at
        WHERE o.order_id = v.order_id AND o.position = p_expected
            AND (o.state = v.state OR o.state NOT IN ('delivered', 'payment_failed', 'cancelled'));
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order % is no longer at position %', v.order_id, p_expected USING ERRCODE = 'RL001';
        END IF;
    END IF;
    IF p_take_driver IS NOT NULL THEN
        UPDATE drivers SET status = 'busy', order_id = v.order_id, reserved_for = NULL, reserved_until = NULL
        WHERE driver_id = p_take_driver AND status = 'available' AND reserved_for = v.order_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'driver % is no longer reserved for %', p_take_driver, v.order_id USING ERRCODE = 'RL002';
        END IF;
    END IF;
    IF p_free_driver IS NOT NULL THEN
        UPDATE drivers SET status = 'available', order_id = NULL
        WHERE driver_id = p_free_driver AND status = 'busy' AND order_id = v.order_id;
    END IF;
    IF p_done_command IS NOT NULL THEN
        INSERT INTO inbox (message_id, done_at) VALUES (p_done_command, p_at);
    END IF;
    INSERT INTO order_events (order_id, position, event_id, audit_id, type, fact, audit, headers, occurred_at)
    SELECT v.order_id, e.position, e.event_id, e.audit_id, e.type, e.fact, e.audit, p_headers, p_at
    FROM unnest(p_positions, p_event_ids, p_audit_ids, p_types, p_facts, p_audits)
        AS e (position, event_id, audit_id, type, fact, audit);
    INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers,
                        broker, destination, priority, occurred_at)
    SELECT r.id, 'order', v.order_id, e.position, r.type, p_fact_version, r.body, p_headers, 'kafka', r.topic, 0, p_at
    FROM unnest(p_positions, p_event_ids, p_audit_ids, p_types, p_actions, p_facts, p_audits)
        AS e (position, event_id, audit_id, type, action, fact, audit)
    CROSS JOIN LATERAL (VALUES (e.event_id, e.type, e.fact, 'orders.events'), (e.audit_id, e.action, e.audit, 'audit.events'))
        AS r (id, type, body, topic);
    IF cardinality(p_command_ids) > 0 THEN
        INSERT INTO outbox (event_id, aggregate_type, aggregate_id, position, type, schema_version, body, headers,
                            broker, destination, priority, occurred_at)
        SELECT c.id, 'order', v.order_id, c.position, c.type, p_command_version, c.body, p_headers, 'rabbitmq', c.type,
               c.priority, p_at
        FROM unnest(p_command_ids, p_command_types, p_command_positions, p_command_bodies, p_command_priorities)
            AS c (id, type, position, body, priority);
    END IF;
END $$;
