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

-- Where degrees lie on a plane (Mercator, in units of a degree at the equator): angles are true, so within a city what is
-- nearest on the plane is nearest on the ground, wherever that city is.
CREATE FUNCTION spot_of(latitude double precision, longitude double precision) RETURNS point
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN point(longitude, degrees(ln(tan(radians(45 + least(greatest(latitude, -89), 89) / 2)))));

-- `spot`: `spot_of` latitude and longitude, for the index.
CREATE TABLE drivers (
    driver_id      text PRIMARY KEY,
    city           text NOT NULL,
    status         text NOT NULL CHECK (status IN ('offline', 'available', 'busy')),
    latitude       double precision NOT NULL,
    longitude      double precision NOT NULL,
    spot           point NOT NULL GENERATED ALWAYS AS (spot_of(latitude, longitude)) STORED,
    order_id       text,
    reserved_for   text,
    reserved_until timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'busy') = (order_id IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX drivers_free ON drivers USING gist (spot) WHERE status = 'available';
CREATE INDEX drivers_reserved ON drivers (reserved_for) WHERE reserved_for IS NOT NULL;
CREATE UNIQUE INDEX drivers_by_order ON drivers (order_id) WHERE order_id IS NOT NULL;
