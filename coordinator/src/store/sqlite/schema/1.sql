-- Schema version 1. Run in one transaction on an empty database.

-- The log's identity, in one row.
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    store_id TEXT NOT NULL
) STRICT;

-- Where each stream ends. An epoch is an unsigned number in the bits of a signed one.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;

-- The log. `crc` is over the other columns but `link`, and the stream's name; `link` is that of the hash chain, kept
-- with the last record of each append.
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    first_version INTEGER NOT NULL,
    count INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    link BLOB,
    body TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX records_of_stream ON records (stream, first_version);

-- Folded state. It may be deleted at any time: the log has all of it.
CREATE TABLE snapshots (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

-- The letters "cair".
PRAGMA application_id = 1667328370;
PRAGMA user_version = 1;
