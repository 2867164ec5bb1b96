-- Restaurants, their menus, and drivers: what orders are made of and who carries them.

CREATE TABLE restaurants (
    restaurant_id  text PRIMARY KEY,
    name           text NOT NULL,
    city           text NOT NULL,
    latitude       double precision NOT NULL,
    longitude      double precision NOT NULL,
    time_zone      text NOT NULL,            -- IANA name; `hours` are local to it
    hours          jsonb NOT NULL,           -- {"monday": [["11:00", "23:00"]], …}; an end before its start is past midnight
    currency       text NOT NULL,
    delivery_fee   bigint NOT NULL CHECK (delivery_fee >= 0),
    webhook_url    text NOT NULL,
    webhook_secret text NOT NULL             -- Standard Webhooks: whsec_…
);
CREATE INDEX restaurants_by_city ON restaurants (city);

CREATE TABLE menu_items (
    restaurant_id text NOT NULL REFERENCES restaurants,
    item_id       text NOT NULL,
    name          text NOT NULL,
    unit_price    bigint NOT NULL CHECK (unit_price > 0),
    available     boolean NOT NULL DEFAULT true,
    PRIMARY KEY (restaurant_id, item_id)
);

-- `spot` is in kilometres on a plane (outbox/sql.py projects degrees), so that the index's distance is a distance.
CREATE TABLE drivers (
    driver_id      text PRIMARY KEY,
    city           text NOT NULL,
    status         text NOT NULL CHECK (status IN ('offline', 'available', 'busy')),
    latitude       double precision NOT NULL,
    longitude      double precision NOT NULL,
    spot           point NOT NULL,
    order_id       text,
    reserved_for   text,
    reserved_until timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'busy') = (order_id IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX drivers_free ON drivers USING gist (spot) WHERE status = 'available';
CREATE INDEX drivers_reserved ON drivers (reserved_for) WHERE reserved_for IS NOT NULL;
CREATE UNIQUE INDEX drivers_by_order ON drivers (order_id) WHERE order_id IS NOT NULL;
