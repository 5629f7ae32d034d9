CREATE TABLE products (sku text PRIMARY KEY, title text NOT NULL, price_cents integer NOT NULL CHECK (price_cents > 0));
INSERT INTO products VALUES ('mug', 'Mug, blue', 1250), ('scarf', 'Woven scarf', 3900), ('basket', 'Willow basket', 2700);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku         text NOT NULL REFERENCES products,
    quantity    integer NOT NULL CHECK (quantity > 0),
    customer    text NOT NULL,
    price_cents integer NOT NULL,
    payment     text NOT NULL,
    settled     boolean NOT NULL DEFAULT false,
    served_by   text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);

CREATE ROLE orders LOGIN;
GRANT SELECT ON products TO orders;
GRANT SELECT, INSERT, UPDATE (settled) ON orders TO orders;
CREATE ROLE storefront LOGIN;
GRANT SELECT ON products, orders TO storefront;
