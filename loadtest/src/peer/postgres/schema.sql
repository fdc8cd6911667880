-- The job in PostgreSQL: stock that can't go below zero, answers by key, holds that run out, an outbox.
-- A function is one transaction; what it has done is durable when it is told (synchronous_commit).

CREATE TABLE stock (
    sku text PRIMARY KEY,
    available bigint NOT NULL CHECK (available >= 0),
    held bigint NOT NULL DEFAULT 0,
    committed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50); -- room for updates in place of rows that are hot

CREATE TABLE hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL,
    customer text NOT NULL,
    order_id text NOT NULL,
    expires_at timestamptz,
    skus text[] NOT NULL,
    units int[] NOT NULL
);
CREATE INDEX hold_overdue ON hold (expires_at) WHERE state = 'held';

CREATE TABLE answer (
    key text PRIMARY KEY,
    request text NOT NULL,
    hold bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    key text NOT NULL,
    hold bigint NOT NULL,
    skus text[] NOT NULL,
    units int[] NOT NULL
);

-- Holds a cart ('held'), or sells it in one step ('ordered'): all lines or none, once under its key. SKUs
-- come in order, so that no two carts wait for each other in a circle. The stock comes last, so that a
-- hot row is locked for the commit and little else.
CREATE FUNCTION take(
    p_key text, p_request text, p_kind text, p_customer text, p_ttl_ms bigint, p_order text,
    p_skus text[], p_units int[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_known answer%ROWTYPE;
    v_available bigint;
    v_hold bigint;
BEGIN
    SELECT * INTO v_known FROM answer WHERE key = p_key;
    IF FOUND THEN
        RETURN CASE WHEN v_known.request = p_request THEN 'ok ' || v_known.hold ELSE 'reused' END;
    END IF;
    -- What is gone is told without a lock; what is there by this look is taken below, or not.
    FOR i IN 1 .. cardinality(p_skus) LOOP
        SELECT available INTO v_available FROM stock WHERE sku = p_skus[i];
        IF NOT FOUND THEN RETURN 'unknown_sku'; END IF;
        IF v_available < p_units[i] THEN RETURN 'sold_out'; END IF;
    END LOOP;
    v_hold := nextval('hold_id_seq');
    -- A twin that is not done is waited for here.
    INSERT INTO answer (key, request, hold) VALUES (p_key, p_request, v_hold) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO STRICT v_known FROM answer WHERE key = p_key;
        RETURN CASE WHEN v_known.request = p_request THEN 'ok ' || v_known.hold ELSE 'reused' END;
    END IF;
    INSERT INTO hold (id, state, customer, order_id, expires_at, skus, units) OVERRIDING SYSTEM VALUE
    VALUES (v_hold, CASE p_kind WHEN 'held' THEN 'held' ELSE 'committed' END, p_customer, p_order,
            CASE p_kind WHEN 'held' THEN now() + p_ttl_ms * interval '1 millisecond' END, p_skus, p_units);
    INSERT INTO outbox (kind, key, hold, skus, units) VALUES (p_kind, p_key, v_hold, p_skus, p_units);
    FOR i IN 1 .. cardinality(p_skus) LOOP
        IF p_kind = 'held' THEN
            UPDATE stock SET available = available - p_units[i], held = held + p_units[i]
            WHERE sku = p_skus[i] AND available >= p_units[i];
        ELSE
            UPDATE stock SET available = available - p_units[i], committed = committed + p_units[i]
            WHERE sku = p_skus[i] AND available >= p_units[i];
        END IF;
        -- All of it is undone.
        IF NOT FOUND THEN RAISE EXCEPTION 'sold out' USING ERRCODE = 'HF001'; END IF;
    END LOOP;
    RETURN 'ok ' || v_hold;
END $$;

-- Commits what is held ('committed'), or gives it back ('released'), once under its key.
CREATE FUNCTION settle(p_key text, p_request text, p_kind text, p_order text, p_hold bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_known answer%ROWTYPE;
    v_hold hold%ROWTYPE;
BEGIN
    SELECT * INTO v_known FROM answer WHERE key = p_key;
    IF FOUND THEN
        RETURN CASE WHEN v_known.request = p_request THEN 'ok ' || v_known.hold ELSE 'reused' END;
    END IF;
    SELECT * INTO v_hold FROM hold WHERE id = p_hold FOR UPDATE;
    IF NOT FOUND THEN RETURN 'unknown_hold'; END IF;
    IF v_hold.state <> 'held' THEN
        -- A twin may have been first while this one waited for the row.
        SELECT * INTO v_known FROM answer WHERE key = p_key;
        IF FOUND AND v_known.request = p_request THEN RETURN 'ok ' || v_known.hold; END IF;
        RETURN 'wrong_state';
    END IF;
    INSERT INTO answer (key, request, hold) VALUES (p_key, p_request, p_hold);
    UPDATE hold SET state = p_kind, order_id = p_order WHERE id = p_hold;
    INSERT INTO outbox (kind, key, hold, skus, units)
    VALUES (p_kind, p_key, p_hold, v_hold.skus, v_hold.units);
    FOR i IN 1 .. cardinality(v_hold.skus) LOOP
        IF p_kind = 'committed' THEN
            UPDATE stock SET held = held - v_hold.units[i], committed = committed + v_hold.units[i]
            WHERE sku = v_hold.skus[i];
        ELSE
            UPDATE stock SET held = held - v_hold.units[i], available = available + v_hold.units[i]
            WHERE sku = v_hold.skus[i];
        END IF;
    END LOOP;
    RETURN 'ok ' || p_hold;
END $$;

-- Gives back what overdue holds hold, one hold a call; tells whether there was one.
CREATE FUNCTION expire() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_hold hold%ROWTYPE;
BEGIN
    SELECT * INTO v_hold FROM hold WHERE state = 'held' AND expires_at <= now()
    ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE hold SET state = 'expired' WHERE id = v_hold.id;
    INSERT INTO outbox (kind, key, hold, skus, units)
    VALUES ('expired', '', v_hold.id, v_hold.skus, v_hold.units);
    FOR i IN 1 .. cardinality(v_hold.skus) LOOP
        UPDATE stock SET held = held - v_hold.units[i], available = available + v_hold.units[i]
        WHERE sku = v_hold.skus[i];
    END LOOP;
    RETURN true;
END $$;
