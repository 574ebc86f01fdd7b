//! Where events are kept: the one truth of a deployment.
//!
//! [`EventStore`] is the seam; its documentation is the contract, and one conformance suite
//! (`tests/store_conformance/`) holds every implementation to it. [`file::FileStore`] keeps a state directory of
//! plain files, [`sqlite::SqliteStore`] one database file in it; neither needs anything installed.
//! [`postgres::PostgresStore`] keeps tables that several coordinators share.
//!
//! What every store keeps alike, so that events can move from one to another unchanged:
//!
//! - a **record**: one or more consecutive events of one stream with the exact JSON text that the caller made;
//! - **positions**: events are numbered through the whole log from 1; a record holds `[position, position + count)`;
//! - **versions**: the events of one stream are numbered from 1;
//! - the **hash chain** over the records ([`chain`]), so that two logs are equal where their links are.
//!
//! Not here: what is inside a body (the runtime's business), snapshots' contents, projections, retries.

mod blocking;
pub mod chain;
mod cursor;
mod error;
mod event_reader;
mod event_store;
pub mod file;
mod heads;
mod in_force;
pub mod lease;
mod lease_file;
pub mod lock;
mod pointer;
pub mod postgres;
mod queue;
mod record;
mod replace;
mod snapshot;
pub mod sqlite;
mod url;
mod view;

pub use chain::Link;
pub use cursor::{Cursor, READ_PAGE_BYTES};
pub use error::{
    AppendError, Damage, DamageReason, InvalidAppend, IoFailure, Notice, OpenError, ReadError, SchemaError,
    SnapshotError, SnapshotFlaw, Stopped, TableFlaw,
};
pub use event_reader::EventReader;
pub use event_store::{EventStore, MAX_IN_FLIGHT_BYTES, ROOM_BYTES, StoreFuture, Ticket, TicketAnswer};
pub use file::FileStore;
pub use in_force::{InForce, InForceError, Opened, in_force, open, open_in_force, open_reader, put_in_force};
pub use lease::{Claim, Lease, LeaseError, Leases};
pub use lock::{Holder, Lock, LockError};
pub use postgres::{DatabaseUrl, PostgresStore};
pub use record::{
    Append, Appended, Head, MAX_APPEND_BYTES, MAX_STREAM_ID_BYTES, NewRecord, StoredRecord, StreamHead,
    StreamId,
};
pub use snapshot::{LoadedSnapshot, MAX_SNAPSHOT_NAME_BYTES, SNAPSHOTS_KEPT, Snapshot};
pub use sqlite::SqliteStore;
pub use url::{StoreUrl, StoreUrlError};
pub use view::StoreView;
