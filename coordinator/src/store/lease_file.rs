//! Leases of a store that one process writes to: files and SQLite.
//!
//! Who could hold a lease is within that process, so a lease outlives no opening of the store: how long it lasts is in
//! memory. Epochs must never be used again, so the last holder and epoch of each lease are in the file `leases` of the
//! state directory, under its lock. The file is replaced before anybody is told of a new holder; a renewal writes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::error::IoFailure;
use super::event_store::StoreFuture;
use super::lease::{Claim, Lease, LeaseError, Leases, check_lease};
use super::lock::Lock;
use super::replace;

/// The form of the file.
const FORMAT: u32 = 1;

/// Names that ever had a lease: their epochs are kept for ever, and the file is written whole. Coordinators hold a handful.
const MAX_LEASES: usize = 256;

/// Most of the file that is read: so many of the longest names and holders, escaped.
const MAX_BYTES: u64 = 2 << 20;

/// The leases of a state directory.
#[derive(Clone, Debug)]
pub(super) struct LeaseFile {
    path: Arc<Path>,
    clock: Clock,
    rows: Arc<Mutex<Rows>>,
    /// That of the state directory.
    _lock: Arc<Lock>,
}

type Rows = BTreeMap<String, Row>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    /// Who had it last; nobody once it was given back.
    holder: Option<String>,
    epoch: u64,
    /// When it runs out.
    #[serde(skip)]
    until: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    leases: Rows,
}

impl LeaseFile {
    /// The leases of the state directory `state`, which keep its lock as long as they live.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(super) fn open(state: &Path, lock: Arc<Lock>) -> Result<Self, IoFailure> {
        let path = state.join("leases");
        let rows = match replace::read(&path, MAX_BYTES) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rows::new()),
            Err(error) => Err(error),
        };
        let rows = rows.map_err(|source| IoFailure { doing: "read", path: path.clone(), source })?;
        let clock = Clock::start(Timestamp(0));
        Ok(Self { path: path.into(), clock, rows: Arc::new(Mutex::new(rows)), _lock: lock })
    }

    /// Does something with the leases on a thread that may wait for the disk.
    fn call<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Rows) -> Result<T, LeaseError> + Send + 'static,
    ) -> StoreFuture<'a, Result<T, LeaseError>> {
        let this = self.clone();
        Box::pin(blocking(LeaseError::ShuttingDown, move || {
            // A change is put in when it is written; what a panicking thread leaves is sound.
            let rows = this.rows.clone();
            work(&this, &mut rows.lock().unwrap_or_else(PoisonError::into_inner))
        }))
    }

    fn claim_now(&self, rows: &mut Rows, wish: Lease) -> Result<Claim, LeaseError> {
        let known = rows.get(&wish.name).cloned().unwrap_or_default();
        let now = self.clock.now();
        let left = known.until.map(|until| until.since(now)).unwrap_or_default();
        match known.holder {
            Some(holder) if holder != wish.holder && !left.is_zero() => {
                return Ok(Claim::Taken(Lease { holder, epoch: known.epoch, ttl: left, ..wish }));
            }
            Some(holder) if holder == wish.holder => {
                rows.entry(wish.name.clone()).and_modify(|row| row.until = Some(now.plus(wish.ttl)));
                return Ok(Claim::Held(Lease { epoch: known.epoch, ..wish }));
            }
            _ => {}
        }
        let epoch = known.epoch + 1;
        let until = Some(now.plus(wish.ttl));
        self.put(rows, &wish.name, Row { holder: Some(wish.holder.clone()), epoch, until })?;
        Ok(Claim::Held(Lease { epoch, ..wish }))
    }

    fn renew_now(&self, rows: &mut Rows, lease: Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        let now = self.clock.now();
        match rows.get_mut(&lease.name) {
            Some(row) if row.is_of(&lease) && row.until.is_some_and(|until| until > now) => {
                row.until = Some(now.plus(ttl));
                Ok(Lease { ttl, ..lease })
            }
            _ => Err(LeaseError::Lost { name: lease.name, holder: lease.holder, epoch: lease.epoch }),
        }
    }

    fn release_now(&self, rows: &mut Rows, lease: &Lease) -> Result<(), LeaseError> {
        match rows.get(&lease.name) {
            Some(row) if row.is_of(lease) => {
                self.put(rows, &lease.name, Row { holder: None, epoch: lease.epoch, until: None })
            }
            _ => Ok(()),
        }
    }

    /// Changes a row, first in the file and then in memory.
    fn put(&self, rows: &mut Rows, name: &str, row: Row) -> Result<(), LeaseError> {
        let mut changed = rows.clone();
        changed.insert(name.to_owned(), row);
        let failed = |source| IoFailure { doing: "write", path: PathBuf::from(&*self.path), source };
        if changed.len() > MAX_LEASES {
            return Err(LeaseError::TooMany { limit: MAX_LEASES });
        }
        let stored = Stored { format: FORMAT, leases: changed };
        let bytes = serde_json::to_vec(&stored).map_err(|error| failed(error.into()))?;
        replace::replace(&self.path, &bytes).map_err(failed)?;
        *rows = stored.leases;
        Ok(())
    }
}

impl Row {
    fn is_of(&self, lease: &Lease) -> bool {
        self.holder.as_ref() == Some(&lease.holder) && self.epoch == lease.epoch
    }
}

fn parse(bytes: &[u8]) -> io::Result<Rows> {
    let Stored { format, leases } = serde_json::from_slice(bytes)?;
    if format == FORMAT {
        return Ok(leases);
    }
    let newer = format!("it has format {format}, and this version of cairn knows {FORMAT}");
    Err(io::Error::new(io::ErrorKind::Unsupported, newer))
}

impl Leases for LeaseFile {
    fn claim<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> StoreFuture<'a, Result<Claim, LeaseError>> {
        if let Err(invalid) = check_lease(name, holder, ttl) {
            return Box::pin(async { Err(invalid) });
        }
        let wish = Lease { name: name.to_owned(), holder: holder.to_owned(), epoch: 0, ttl };
        self.call(|this, rows| this.claim_now(rows, wish))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> StoreFuture<'a, Result<Lease, LeaseError>> {
        if let Err(invalid) = check_lease(&lease.name, &lease.holder, ttl) {
            return Box::pin(async { Err(invalid) });
        }
        let lease = lease.clone();
        self.call(move |this, rows| this.renew_now(rows, lease, ttl))
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, Result<(), LeaseError>> {
        let lease = lease.clone();
        self.call(move |this, rows| this.release_now(rows, &lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FileStore, Holder, SqliteStore, file, sqlite};
    use uuid::Uuid;

    const LONG: Duration = Duration::from_secs(600);

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
    }

    fn held(leases: &dyn Leases, holder: &str) -> Lease {
        match block_on(leases.claim("s", holder, LONG)).expect("claimed") {
            Claim::Held(lease) => lease,
            Claim::Taken(lease) => panic!("{lease:?}"),
        }
    }

    #[test]
    fn a_lease_ends_with_its_process_and_its_epoch_does_not() {
        let state = tempfile::tempdir().expect("a directory");
        let holder = Holder::this_process("a test", Timestamp(0));
        let files =
            FileStore::open(state.path(), &holder, file::Options::new(Uuid::from_u128(7))).expect("opened");
        let first = held(&*files.leases(), "a");
        drop(files);
        // The other kind of store has them too: events may move from one to the other.
        let options = sqlite::Options::new(Uuid::from_u128(7));
        let sqlite = SqliteStore::open(state.path(), &holder, options).expect("opened");
        let leases = sqlite.leases();
        let lost = block_on(leases.renew(&first, LONG)).expect_err("its process has ended");
        assert!(matches!(lost, LeaseError::Lost { epoch: 1, .. }), "{lost}");
        assert_eq!(held(&*leases, "b").epoch, first.epoch + 1);
        drop(sqlite);
        let again = SqliteStore::open(state.path(), &holder, options).expect_err("the leases hold the lock");
        assert!(again.to_string().contains("is in use"), "{again}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_and_left() {
        let state = tempfile::tempdir().expect("a directory");
        let holder = Holder::this_process("a test", Timestamp(0));
        for text in ["", "{", r#"{"format":2,"leases":{}}"#] {
            std::fs::write(state.path().join("leases"), text).expect("written");
            let refused = FileStore::open(state.path(), &holder, file::Options::new(Uuid::from_u128(7)));
            assert!(refused.is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(state.path().join("leases")).expect("there"), text);
        }
    }

    #[test]
    fn there_is_an_end_of_names() {
        let state = tempfile::tempdir().expect("a directory");
        let holder = Holder::this_process("a test", Timestamp(0));
        let files =
            FileStore::open(state.path(), &holder, file::Options::new(Uuid::from_u128(7))).expect("opened");
        let leases = files.leases();
        let claim = |name: &str| block_on(leases.claim(name, "a", LONG));
        for name in 0..MAX_LEASES {
            assert!(matches!(claim(&name.to_string()), Ok(Claim::Held(_))));
        }
        assert!(matches!(claim("one more"), Err(LeaseError::TooMany { limit: MAX_LEASES })));
        assert!(matches!(claim("1"), Ok(Claim::Held(_))), "those that are known go on");
    }
}
