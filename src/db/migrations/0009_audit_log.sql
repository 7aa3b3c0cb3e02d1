-- Why: what tokens, operators and partners change is written down where no function can change it afterwards: entries that
-- follow one another by their hashes, a chain for each tenant. Code that does not know the log writes none.

-- `content` is the canonical JSON of what was done (src/domain/audit.py), as it was hashed. A jsonb would not give it back
-- byte for byte. The columns that are searched are taken from it, so that they cannot say anything else. The tenant
-- 00000000-0000-0000-0000-000000000000 is the stack itself: what operators did for all tenants.
CREATE TABLE audit_entry (
    tenant_id uuid        NOT NULL,
    sequence  bigint      NOT NULL,
    at        timestamptz NOT NULL,
    content   text        NOT NULL,
    previous  bytea       NOT NULL,
    hash      bytea       NOT NULL,
    entry_id  uuid        NOT NULL GENERATED ALWAYS AS ((content::jsonb ->> 'entry_id')::uuid) STORED,
    what      text        NOT NULL GENERATED ALWAYS AS (content::jsonb ->> 'what') STORED,
    actor     text        NOT NULL GENERATED ALWAYS AS (content::jsonb ->> 'by') STORED,
    subject   text        NOT NULL GENERATED ALWAYS AS (content::jsonb ->> 'on') STORED,
    CONSTRAINT audit_entry_pkey PRIMARY KEY (tenant_id, sequence),
    CONSTRAINT audit_entry_once UNIQUE (tenant_id, entry_id),
    CONSTRAINT audit_entry_numbered_from_one CHECK (sequence >= 1),
    CONSTRAINT audit_entry_hash_lengths CHECK (octet_length(previous) = 32 AND octet_length(hash) = 32),
    CONSTRAINT audit_entry_content_bounded CHECK (octet_length(content) <= 16384),
    CONSTRAINT audit_entry_of_its_tenant CHECK ((content::jsonb ->> 'tenant_id')::uuid = tenant_id)
);
CREATE INDEX audit_entry_by_time ON audit_entry (tenant_id, at, sequence);
CREATE INDEX audit_entry_by_what ON audit_entry (tenant_id, what, sequence);
CREATE INDEX audit_entry_by_actor ON audit_entry (tenant_id, actor, sequence);
CREATE INDEX audit_entry_by_subject ON audit_entry (tenant_id, subject, sequence);

-- The end of each chain, which whoever appends to it locks, as the last of all its locks.
CREATE TABLE audit_head (
    tenant_id uuid        NOT NULL,
    sequence  bigint      NOT NULL DEFAULT 0,
    at        timestamptz NOT NULL DEFAULT '-infinity',
    hash      bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    CONSTRAINT audit_head_pkey PRIMARY KEY (tenant_id)
) WITH (fillfactor = 50);

-- The only way in. It runs with the rights of the owner of the schema: the functions' roles may call it, and may neither
-- insert an entry nor move the end of a chain themselves. An entry that is there already stays as it is and is returned,
-- so a statement that calls this may be run again. No entry is older than the one before it, whatever the clocks say.
CREATE FUNCTION append_audit(
    for_tenant uuid, moment timestamptz, content text, OUT sequence bigint, OUT at timestamptz, OUT hash bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO head FROM audit_head AS ends WHERE ends.tenant_id = for_tenant FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO audit_head (tenant_id) VALUES (for_tenant) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM audit_head AS ends WHERE ends.tenant_id = for_tenant FOR UPDATE;
    END IF;
    SELECT entry.sequence, entry.at, entry.hash INTO sequence, at, hash
    FROM audit_entry AS entry
    WHERE entry.tenant_id = for_tenant AND entry.entry_id = (content::jsonb ->> 'entry_id')::uuid;
    IF FOUND THEN
        RETURN;
    END IF;
    sequence := head.sequence + 1;
    at := greatest(head.at, moment);
    hash := sha256(convert_to(format(
        '{"at":"%s","content":%s,"previous":"%s","sequence":%s}',
        to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), content, encode(head.hash, 'hex'), sequence
    ), 'UTF8'));
    INSERT INTO audit_entry (tenant_id, sequence, at, content, previous, hash)
    VALUES (for_tenant, sequence, at, content, head.hash, hash);
    UPDATE audit_head AS ends SET sequence = append_audit.sequence, at = append_audit.at, hash = append_audit.hash
    WHERE ends.tenant_id = for_tenant;
END $$;
REVOKE EXECUTE ON FUNCTION append_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit TO sallyport_app, sallyport_admin;

-- A partner that answers 410 disables its destination in the statement that records the attempt (src/db/attempts.py). So
-- its entry is written with it, at no cost where nothing is disabled. The id of the entry is a hash of what it is about.
CREATE FUNCTION audit_partners_act() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM append_audit(NEW.tenant_id, NEW.state_changed_at, format(
        '{"by":"%s","details":{},"entry_id":"%s","members":[],"on":"%s","source_address":null,"tenant_id":"%s",'
        '"what":"destination.disabled"}',
        NEW.state_changed_by,
        encode(substr(sha256(convert_to(NEW.destination_id || ':' || NEW.version, 'UTF8')), 1, 16), 'hex')::uuid,
        NEW.destination_id, NEW.tenant_id));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_partners_act AFTER UPDATE OF state ON destination
    FOR EACH ROW WHEN (NEW.state = 'disabled' AND OLD.state <> 'disabled' AND NEW.state_changed_by = 'partner answered 410')
    EXECUTE FUNCTION audit_partners_act();

GRANT SELECT ON audit_entry, audit_head TO sallyport_app, sallyport_admin, sallyport_readonly;
