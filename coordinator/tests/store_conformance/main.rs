//! What every event store promises, as cases that each implementation runs. The contract is the documentation of
//! [`EventStore`]; a case here is a sentence of it.
//!
//! A store joins with a [`Fixture`] and one line of `suite!`.
#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod appending;
#[path = "../support/cluster.rs"]
mod cluster;
mod crowds;
mod leases;
mod model;
mod outcomes;
mod reading;
mod several;
mod snapshots;

use std::sync::{Arc, OnceLock};

use cairn_coordinator::store::file::Options;
use cairn_coordinator::store::postgres::Options as PostgresOptions;
use cairn_coordinator::store::{
    Append, Cursor, EventStore, FileStore, Holder, Leases, Link, NewRecord, PostgresStore, SqliteStore,
    StoredRecord, StreamId,
};
use cairn_model::Timestamp;
use uuid::Uuid;

/// One store's data, empty at first.
trait Fixture {
    /// Makes room for it.
    fn new() -> Self
    where
        Self: Sized;

    /// Opens the store. The one that this gave out before has been dropped.
    fn open(&self) -> Arc<dyn EventStore>;

    /// Whether what the store needs is installed here; if not, that is told.
    fn is_available() -> bool
    where
        Self: Sized,
    {
        true
    }
}

/// Data whose leases may be opened several times: by several stores, or of the one that is open.
trait LeaseFixture: Fixture {
    /// The leases.
    fn open_leases(&self) -> Arc<dyn Leases>;
}

/// Data that several stores may have open at once.
trait SharedFixture: Fixture {}

/// A state directory, with segments so short that most cases have several.
struct FileFixture(tempfile::TempDir, OnceLock<Arc<dyn Leases>>);

impl Fixture for FileFixture {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), OnceLock::new())
    }

    fn open(&self) -> Arc<dyn EventStore> {
        Arc::new(self.open_store())
    }
}

impl LeaseFixture for FileFixture {
    fn open_leases(&self) -> Arc<dyn Leases> {
        self.1.get_or_init(|| self.open_store().leases()).clone()
    }
}

impl FileFixture {
    fn open_store(&self) -> FileStore {
        let holder = Holder::this_process("the conformance suite", Timestamp(0));
        let options = Options { store_id: Uuid::from_u128(7), segment_bytes: 10_000 };
        FileStore::open(self.0.path(), &holder, options).unwrap()
    }
}

/// A state directory with a database.
struct SqliteFixture(tempfile::TempDir, OnceLock<Arc<dyn Leases>>);

impl Fixture for SqliteFixture {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), OnceLock::new())
    }

    fn open(&self) -> Arc<dyn EventStore> {
        Arc::new(self.open_store())
    }
}

impl LeaseFixture for SqliteFixture {
    fn open_leases(&self) -> Arc<dyn Leases> {
        self.1.get_or_init(|| self.open_store().leases()).clone()
    }
}

impl SqliteFixture {
    fn open_store(&self) -> SqliteStore {
        let holder = Holder::this_process("the conformance suite", Timestamp(0));
        let options = cairn_coordinator::store::sqlite::Options::new(Uuid::from_u128(7));
        SqliteStore::open(self.0.path(), &holder, options).unwrap()
    }
}

/// A schema of its own in the cluster of this test binary.
struct PostgresFixture {
    url: String,
    schema: String,
}

impl Fixture for PostgresFixture {
    fn new() -> Self {
        Self { url: cluster::Cluster::shared().unwrap().url(), schema: cluster::Cluster::schema() }
    }

    fn open(&self) -> Arc<dyn EventStore> {
        self.open_store()
    }

    fn is_available() -> bool {
        cluster::Cluster::shared().is_some()
    }
}

impl SharedFixture for PostgresFixture {}

impl LeaseFixture for PostgresFixture {
    fn open_leases(&self) -> Arc<dyn Leases> {
        self.open_store()
    }
}

impl PostgresFixture {
    fn open_store(&self) -> Arc<PostgresStore> {
        let options =
            PostgresOptions { schema: self.schema.clone(), ..PostgresOptions::new(Uuid::from_u128(7)) };
        Arc::new(PostgresStore::open(&self.url, options).unwrap())
    }
}

macro_rules! suite {
    (shared $store:ident, $fixture:ident) => {
        mod $store {
            use super::*;

            suite!(@cases $fixture several:
                what_one_appends_the_others_see
                epochs_are_given_out_once
                an_owner_is_fenced_by_another_store
                one_store_of_several_wins_a_version
                sixteen_stores_write_and_a_reader_follows
            );
        }
    };
    ($store:ident, $fixture:ident) => {
        mod $store {
            use super::*;

            suite!(@cases $fixture appending:
                an_empty_store_is_empty
                positions_count_events_from_one
                the_first_event_has_version_one
                a_wrong_version_is_a_conflict_that_names_both
                a_conflict_fails_only_its_own_append
                what_builds_on_a_refused_append_is_refused
                an_append_over_several_streams_is_made_whole
                one_record_that_does_not_fit_refuses_the_whole_append
                a_stream_may_have_several_records_in_an_append
                records_of_a_stream_in_an_append_must_follow_each_other
                epochs_rise_with_appends
                a_lower_epoch_is_fenced
                a_fenced_append_is_not_called_a_conflict
                epochs_of_streams_are_their_own
                the_next_epoch_is_above_all_before
                a_new_owner_fences_the_old_one
                what_can_never_be_appended_is_invalid
                tickets_complete_in_order
                sixteen_submitters_keep_their_order
                one_of_many_that_race_wins
                all_is_there_after_opening_again
                a_thousand_streams_in_one_append
            );
            suite!(@cases $fixture reading:
                bodies_are_kept_byte_for_byte
                names_of_streams_are_kept
                huge_bodies_are_kept
                the_chain_is_that_of_the_definition
                reading_begins_with_the_record_that_holds_the_position
                pages_are_bounded_and_complete
                a_stream_is_read_without_the_others
                a_stream_is_read_from_a_version
                a_cursor_follows_a_log_that_grows
                a_cursor_can_be_kept_and_used_again
                a_cursor_ahead_of_the_log_waits_for_it
                a_reader_beside_a_writer_sees_whole_appends_in_order
                what_is_acknowledged_is_read
                a_stream_is_read_in_pages_beside_others
                a_stream_that_begins_later_is_followed
                every_record_begins_a_cursor_of_its_own
                a_read_that_is_dropped_leaves_the_cursor
            );
            suite!(@cases $fixture snapshots:
                a_snapshot_is_loaded_as_it_was_saved
                the_newest_snapshot_is_loaded
                no_snapshot_is_none
                a_snapshot_of_what_is_not_durable_is_refused
                snapshots_of_different_names_are_kept_apart
                a_large_snapshot_is_kept
                a_snapshot_of_a_lower_version_takes_the_place_of_a_higher_one
                a_snapshot_may_be_of_nothing_and_have_no_bytes
                a_snapshots_name_has_a_longest_length
            );
            suite!(@cases $fixture crowds:
                sixteen_writers_of_one_stream_lose_nothing
                appends_over_shared_streams_stay_whole
                sixteen_readers_beside_a_writer_see_the_same
                one_epoch_is_given_out_once
                snapshots_are_saved_beside_appends
                the_ends_of_many_streams_are_known_again
            );
            suite!(@cases $fixture outcomes:
                an_append_is_made_though_its_ticket_is_dropped
                dropping_a_store_finishes_what_was_submitted
                an_unknown_outcome_is_settled_by_a_key_inside
                the_same_append_twice_is_made_once
                a_streams_end_counts_what_is_submitted
                a_refused_append_raises_no_epoch
                a_refused_append_begins_no_stream
                the_first_record_that_does_not_fit_decides
                the_epochs_of_all_streams_of_an_append_rise
                many_records_in_one_append_are_kept_in_order
                a_record_may_hold_very_many_events
                the_largest_append_is_kept
            );
            suite!(@cases $fixture leases:
                a_lease_has_one_holder
                of_those_who_claim_at_once_one_gets_it
                a_lease_that_ran_out_may_be_claimed
                a_renewed_lease_lasts
                a_lost_lease_is_not_renewed
                a_lease_given_back_is_free
                who_holds_it_may_claim_it_again
                what_no_lease_can_be_is_refused
            );
            suite!(@cases $fixture model: any_history_is_as_the_model_says);
        }
    };
    (@cases $fixture:ident $module:ident: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                if !$fixture::is_available() {
                    return;
                }
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on($module::$case(&$fixture::new()));
            }
        )*
    };
}

suite!(file, FileFixture);
suite!(sqlite, SqliteFixture);
suite!(postgres, PostgresFixture);
suite!(shared postgres_shared, PostgresFixture);

/// A record of `count` events.
fn record(stream: &str, first_version: u64, count: u32) -> NewRecord {
    let body = format!("{{\"version\":{first_version}}}");
    NewRecord { stream: stream.into(), first_version, count, body }
}

fn append(epoch: u64, records: Vec<NewRecord>) -> Append {
    Append { epoch, records }
}

/// One event of `stream` under epoch 1.
fn event(stream: &str, version: u64) -> Append {
    append(1, vec![record(stream, version, 1)])
}

/// Reads on until there is nothing more.
async fn read_rest(store: &dyn EventStore, cursor: &mut Cursor) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    loop {
        let page = store.read(cursor).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

async fn read_all(store: &dyn EventStore) -> Vec<StoredRecord> {
    read_rest(store, &mut Cursor::all(1)).await
}

async fn read_stream(store: &dyn EventStore, stream: &str, version: u64) -> Vec<StoredRecord> {
    read_rest(store, &mut Cursor::stream(stream.into(), version)).await
}

async fn version(store: &dyn EventStore, stream: &str) -> u64 {
    store.stream_head(&StreamId::from(stream)).await.unwrap().version
}

/// The link after `records`, by the definition.
fn chain_of(records: &[StoredRecord]) -> Link {
    records.iter().fold(Link::EMPTY, |link, record| {
        let StoredRecord { stream, first_version, count, epoch, body, .. } = record;
        link.followed_by(stream.as_str(), *first_version, *count, *epoch, body.as_bytes())
    })
}
