-- Why: lists are filtered by what only few deliveries have: a member of their metadata, an ordering key, an attempt that
-- failed, or one after which nobody knows whether the partner acted.

-- Each such property of a delivery is a term: one row, which is never changed, so that an update of a delivery writes no
-- more than before. A list is read off the index, the newest first. What has no such property has no row.
CREATE TABLE delivery_term (
    term        bigint NOT NULL,
    delivery_id uuid   NOT NULL,
    CONSTRAINT delivery_term_pkey PRIMARY KEY (term, delivery_id)
);

-- The number of a property. It depends on the tenant: no list reads rows of another tenant's deliveries. Should two
-- properties have the same number, the statement that reads the list leaves out what does not have the property.
CREATE FUNCTION term_of(tenant uuid, property text, content text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(md5(tenant::text || ':' || length(property)::text || ':' || property || content), 16))::bit(64)::bigint
$$;

-- Whether an attempt leaves open if the partner acted (domain/retry.py, AMBIGUOUS_STATUSES).
CREATE FUNCTION leaves_open(outcome text, status smallint) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT outcome = 'unknown'
           OR coalesce(status = 408 OR status >= 500 AND status NOT IN (501, 503, 505, 506, 508, 510, 511), false)
$$;

CREATE FUNCTION add_terms_of_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_term (term, delivery_id)
    SELECT term_of(NEW.tenant_id, 'metadata.' || key, value #>> '{}'), NEW.delivery_id
    FROM jsonb_each(NEW.metadata)
    WHERE jsonb_typeof(value) IN ('string', 'number', 'boolean')
    UNION
    SELECT term_of(NEW.tenant_id, 'ordering_key', NEW.ordering_key), NEW.delivery_id
    WHERE NEW.ordering_key IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION add_terms_of_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_term (term, delivery_id)
    SELECT term_of(tenant_id, property, content), delivery_id
    FROM delivery
    CROSS JOIN LATERAL (
        VALUES ('outcome', CASE WHEN NEW.status IS NULL THEN NEW.outcome END),
               ('status', (NEW.status / 100)::text),
               ('may_have_happened', CASE WHEN leaves_open(NEW.outcome, NEW.status) THEN 'true' END)
    ) AS has (property, content)
    WHERE delivery_id = NEW.delivery_id AND content IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION delete_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_term
    USING (
        SELECT term_of(OLD.tenant_id, 'metadata.' || key, value #>> '{}') AS term FROM jsonb_each(OLD.metadata)
        UNION
        SELECT term_of(OLD.tenant_id, 'ordering_key', OLD.ordering_key)
        UNION
        SELECT term_of(OLD.tenant_id, 'may_have_happened', 'true')
        UNION
        SELECT term_of(OLD.tenant_id, 'outcome', kind) FROM unnest(ARRAY ['unreachable', 'unknown', 'refused']) AS kind
        UNION
        SELECT term_of(OLD.tenant_id, 'status', digit::text) FROM generate_series(0, 9) AS digit
    ) AS had
    WHERE delivery_term.term = had.term AND delivery_id = OLD.delivery_id;
    RETURN NULL;
END $$;

-- Triggers, so that no statement that stores deliveries or attempts can forget them. Those of what went well and has
-- neither metadata nor key do nothing.
CREATE TRIGGER terms_of_delivery AFTER INSERT ON delivery FOR EACH ROW
    WHEN (NEW.metadata <> '{}' OR NEW.ordering_key IS NOT NULL) EXECUTE FUNCTION add_terms_of_delivery();
CREATE TRIGGER terms_of_attempt AFTER INSERT OR UPDATE ON attempt FOR EACH ROW
    WHEN (NEW.status IS NULL OR NEW.status < 200 OR NEW.status > 299) EXECUTE FUNCTION add_terms_of_attempt();
CREATE TRIGGER terms_go_with_delivery AFTER DELETE ON delivery FOR EACH ROW EXECUTE FUNCTION delete_terms();

GRANT SELECT, INSERT ON delivery_term TO sallyport_app;
GRANT SELECT ON delivery_term TO sallyport_readonly;
