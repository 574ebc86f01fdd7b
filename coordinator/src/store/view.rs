//! A store that is open, for code that only reads and may block.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::cursor::Cursor;
use super::error::{ReadError, SnapshotError};
use super::event_reader::EventReader;
use super::event_store::EventStore;
use super::record::{Head, StoredRecord};
use super::snapshot::LoadedSnapshot;

/// What this process's own store keeps, as a reader. Its calls panic on a thread that drives asynchronous tasks: it is
/// for `spawn_blocking` and threads of one's own. It sees what is durable, and nothing else.
#[derive(Clone)]
pub struct StoreView {
    store: Arc<dyn EventStore>,
    runtime: Handle,
}

impl StoreView {
    /// Reads from `store`; what it has to wait for is driven by `runtime`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, runtime: Handle) -> Self {
        Self { store, runtime }
    }
}

impl EventReader for StoreView {
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        self.runtime.block_on(self.store.read(cursor))
    }

    fn head(&self) -> Result<Head, ReadError> {
        self.runtime.block_on(self.store.head())
    }

    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
        self.runtime.block_on(self.store.load_snapshot(name))
    }
}
