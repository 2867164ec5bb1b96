-- Least rights: the application changes rows, never tables; nobody edits an order's events.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rushline_app') THEN
        GRANT USAGE ON SCHEMA public TO rushline_app;
        GRANT SELECT, INSERT, UPDATE ON orders, restaurants, menu_items, drivers, leases TO rushline_app;
        GRANT SELECT, INSERT ON order_events TO rushline_app;
        GRANT SELECT, INSERT, DELETE ON inbox, outbox, idempotency_keys, outbox_set_aside, menu_items TO rushline_app;
        GRANT SELECT, DELETE ON outbox_rabbitmq, outbox_kafka TO rushline_app;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO rushline_app;
        GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO rushline_app;
    END IF;
END $$;
