-- The tables and functions of version 1. Run in an empty schema that is first in the search path.

-- One row: which log this is.
CREATE TABLE store (
    is_here boolean PRIMARY KEY DEFAULT true CHECK (is_here),
    id uuid NOT NULL
);

-- One row: the end of the log. Who appends locks it first, until it has committed; so positions have no gaps, and a
-- reader that sees a position has seen or can see all before it.
CREATE TABLE head (
    is_here boolean PRIMARY KEY DEFAULT true CHECK (is_here),
    position bigint NOT NULL,
    chain bytea NOT NULL CHECK (octet_length(chain) = 32)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000);

INSERT INTO head (position, chain) VALUES (0, decode(repeat('00', 32), 'hex'));

-- The events, one or more to a row.
CREATE TABLE records (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    first_version bigint NOT NULL CHECK (first_version > 0),
    count bigint NOT NULL CHECK (count > 0),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    body text NOT NULL,
    -- The link of the hash chain after the last record of a batch; null elsewhere.
    link bytea CHECK (octet_length(link) = 32),
    UNIQUE (stream, first_version)
);

-- The end of every stream, and the highest epoch given out.
CREATE TABLE streams (
    name text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    claimed_epoch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Who writes. A writer numbers its batches from 1 and has one under way at most. The answer to its last one is kept, so
-- that it can ask again when the connection broke before it came.
CREATE TABLE writers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    batch bigint NOT NULL DEFAULT 0,
    first_position bigint NOT NULL DEFAULT 1,
    refused_appends integer[] NOT NULL DEFAULT '{}',
    refused_runs integer[] NOT NULL DEFAULT '{}',
    refused_as_fenced boolean[] NOT NULL DEFAULT '{}',
    refused_at bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 20);

CREATE TABLE snapshots (
    name text COLLATE "C",
    version bigint,
    position bigint NOT NULL,
    format integer NOT NULL,
    store uuid NOT NULL,
    sha256 bytea NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (name, version)
);
ALTER TABLE snapshots ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE leases (
    name text COLLATE "C" PRIMARY KEY,
    holder text,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Appends a batch: locks, checks, inserts and commits in one call, so that a writer which stops in between stops nobody.
--
-- A batch has appends, an append has runs: events of one stream that follow each other. The first run of an append that
-- does not fit refuses the append; the others of the batch are made. Numbers of appends, runs and streams count from 1.
-- The client says which link the log would have if it has the link that the client knows and nothing is refused; else
-- the link is computed here.
--
-- A batch that has been made already is answered as it was. CA001: the database has forgotten what it acknowledged.
CREATE FUNCTION append(
    in_writer integer,
    in_batch bigint,
    in_known_chain bytea,
    in_next_chain bytea,
    in_streams text[],
    in_append_epochs bigint[],
    in_append_counts bigint[],
    in_run_appends integer[],
    in_run_streams integer[],
    in_run_versions bigint[],
    in_run_counts bigint[],
    in_record_appends integer[],
    in_record_streams integer[],
    in_record_offsets bigint[],
    in_record_versions bigint[],
    in_record_counts bigint[],
    in_record_bodies text[],
    OUT end_position bigint,
    OUT end_chain bytea,
    OUT out_first_position bigint,
    OUT out_refused_appends integer[],
    OUT out_refused_runs integer[],
    OUT out_refused_as_fenced boolean[],
    OUT out_refused_at bigint[]
) LANGUAGE plpgsql AS $append$
DECLARE
    last_batch bigint;
    versions bigint[];
    epochs bigint[];
    old_versions bigint[];
    undo_versions bigint[] := array_fill(0::bigint, ARRAY[cardinality(in_run_appends)]);
    undo_epochs bigint[] := undo_versions;
    bases bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(in_append_epochs)]);
    this_append integer := 0;
    this_stream integer;
    first_run integer;
    is_refused boolean;
    is_fenced boolean;
BEGIN
    SELECT position, chain INTO STRICT end_position, end_chain FROM head FOR UPDATE;
    SELECT batch, first_position, refused_appends, refused_runs, refused_as_fenced, refused_at
        INTO last_batch, out_first_position, out_refused_appends, out_refused_runs, out_refused_as_fenced, out_refused_at
        FROM writers WHERE id = in_writer;
    IF last_batch = in_batch THEN
        RETURN;
    ELSIF last_batch IS DISTINCT FROM in_batch - 1 THEN
        RAISE EXCEPTION 'the database knows % of the % batches that writer % has been told are durable',
            coalesce(last_batch::text, 'none'), in_batch - 1, in_writer USING ERRCODE = 'CA001';
    END IF;

    out_first_position := end_position + 1;
    out_refused_appends := '{}';
    out_refused_runs := '{}';
    out_refused_as_fenced := '{}';
    out_refused_at := '{}';
    SELECT array_agg(coalesce(s.version, 0) ORDER BY n), array_agg(coalesce(s.epoch, 0) ORDER BY n)
        INTO versions, epochs
        FROM unnest(in_streams) WITH ORDINALITY AS wanted(name, n) LEFT JOIN streams AS s USING (name);
    old_versions := versions;

    FOR run IN 1..cardinality(in_run_appends) LOOP
        IF in_run_appends[run] <> this_append THEN
            this_append := in_run_appends[run];
            first_run := run;
            is_refused := false;
            bases[this_append] := end_position + 1;
            end_position := end_position + in_append_counts[this_append];
        END IF;
        CONTINUE WHEN is_refused;
        this_stream := in_run_streams[run];
        is_fenced := in_append_epochs[this_append] < epochs[this_stream];
        IF NOT is_fenced AND in_run_versions[run] = versions[this_stream] + 1 THEN
            undo_versions[run] := versions[this_stream];
            undo_epochs[run] := epochs[this_stream];
            versions[this_stream] := versions[this_stream] + in_run_counts[run];
            epochs[this_stream] := in_append_epochs[this_append];
            CONTINUE;
        END IF;
        is_refused := true;
        out_refused_appends := out_refused_appends || this_append;
        out_refused_runs := out_refused_runs || run;
        out_refused_as_fenced := out_refused_as_fenced || is_fenced;
        out_refused_at := out_refused_at
            || CASE WHEN is_fenced THEN epochs[this_stream] ELSE versions[this_stream] END;
        FOR done IN REVERSE run - 1..first_run LOOP
            versions[in_run_streams[done]] := undo_versions[done];
            epochs[in_run_streams[done]] := undo_epochs[done];
        END LOOP;
        bases[this_append] := NULL;
        end_position := end_position - in_append_counts[this_append];
    END LOOP;

    IF end_position >= out_first_position THEN
        IF end_chain = in_known_chain AND out_refused_appends = '{}' THEN
            end_chain := in_next_chain;
        ELSE
            FOR r IN 1..cardinality(in_record_appends) LOOP
                CONTINUE WHEN bases[in_record_appends[r]] IS NULL;
                end_chain := link(end_chain, in_streams[in_record_streams[r]], in_record_versions[r],
                    in_record_counts[r], in_append_epochs[in_record_appends[r]], in_record_bodies[r]);
            END LOOP;
        END IF;
        INSERT INTO records (position, stream, first_version, count, epoch, body, link)
            SELECT bases[r.append] + r.place, in_streams[r.stream], r.version, r.count, in_append_epochs[r.append], r.body,
                CASE WHEN bases[r.append] + r.place + r.count = end_position + 1 THEN end_chain END
            FROM unnest(in_record_appends, in_record_streams, in_record_offsets, in_record_versions, in_record_counts,
                in_record_bodies) AS r(append, stream, place, version, count, body)
            WHERE bases[r.append] IS NOT NULL;
        INSERT INTO streams AS s (name, version, epoch)
            SELECT in_streams[n], versions[n], epochs[n] FROM generate_subscripts(in_streams, 1) AS n
            WHERE versions[n] > old_versions[n]
            ON CONFLICT (name) DO UPDATE SET version = excluded.version, epoch = excluded.epoch;
        UPDATE head SET position = end_position, chain = end_chain;
        PERFORM pg_notify(current_schema(), end_position::text);
    END IF;
    UPDATE writers SET batch = in_batch, first_position = out_first_position, refused_appends = out_refused_appends,
        refused_runs = out_refused_runs, refused_as_fenced = out_refused_as_fenced, refused_at = out_refused_at
        WHERE id = in_writer;
END
$append$;

-- The link of the record that follows the link, as every store computes it. An expression, so that it is inlined.
CREATE FUNCTION link(link bytea, stream text, first_version bigint, count bigint, epoch bigint, body text)
RETURNS bytea LANGUAGE sql IMMUTABLE AS $link$
    SELECT sha256(link || int4send(octet_length(stream)) || convert_to(stream, 'UTF8') || int8send(first_version)
        || substr(int8send(count), 5) || int8send(epoch) || int8send(octet_length(body)) || convert_to(body, 'UTF8'))
$link$;

-- Keeps a snapshot, the newest of a lower version, and no other of its name. Refused if it is ahead of the log, whose end
-- is returned.
CREATE FUNCTION save_snapshot(
    in_name text,
    in_version bigint,
    in_position bigint,
    in_format integer,
    in_sha256 bytea,
    in_bytes bytea,
    in_kept integer
) RETURNS bigint LANGUAGE plpgsql AS $save$
DECLARE
    durable bigint;
BEGIN
    SELECT position INTO STRICT durable FROM head;
    IF in_position <= durable THEN
        INSERT INTO snapshots (name, version, position, format, store, sha256, bytes)
            SELECT in_name, in_version, in_position, in_format, store.id, in_sha256, in_bytes FROM store
            ON CONFLICT (name, version) DO UPDATE SET position = excluded.position, format = excluded.format,
                store = excluded.store, sha256 = excluded.sha256, bytes = excluded.bytes;
        DELETE FROM snapshots WHERE name = in_name AND (version > in_version OR version NOT IN (
            SELECT s.version FROM snapshots AS s WHERE s.name = in_name AND s.version <= in_version
            ORDER BY s.version DESC LIMIT in_kept));
    END IF;
    RETURN durable;
END
$save$;
