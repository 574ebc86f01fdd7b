//! Leases: rights that end by themselves, kept in the store so that several coordinators agree on who has them. PostgreSQL
//! keeps them as rows; a store that one process writes to keeps them in a file (`lease_file.rs`).

use std::time::Duration;

use super::error::IoFailure;
use super::event_store::StoreFuture;

/// Longest name of a lease or of a holder, in bytes; the same as a stream's.
pub const MAX_LEASE_NAME_BYTES: usize = super::record::MAX_STREAM_ID_BYTES;

/// Longest time of a lease: what is held for longer is not waited for.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Who holds what, under which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Rises with each change of holder, and is never used again: it fences what an earlier holder still does.
    pub epoch: u64,
    /// How long it is good for, counted by the holder from before the call that gave it: the answer takes its time.
    pub ttl: Duration,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a claim may find that somebody else holds the lease"]
pub enum Claim {
    /// The caller holds it now.
    Held(Lease),
    /// Somebody else does; `ttl` is what is left of it.
    Taken(Lease),
}

/// Why a lease could not be asked for, renewed or given back.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It ran out, or somebody else holds it: whoever thought to have it must stop.
    #[error("the lease {name} is not held by {holder} under epoch {epoch} any more")]
    Lost {
        /// What was held.
        name: String,
        /// By whom.
        holder: String,
        /// Under which epoch.
        epoch: u64,
    },
    /// A name, holder or time that no lease can have.
    #[error(
        "a lease has a name and a holder of 1 to {MAX_LEASE_NAME_BYTES} bytes without control characters, and lasts \
         at most {MAX_LEASE_TTL:?}"
    )]
    Invalid,
    /// So many names are kept, and this is another one.
    #[error("the store keeps the leases of {limit} names at most")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The store could not be reached.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The runtime is shutting down and takes no more work.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// Leases in a store, on the store's own clock.
///
/// A holder's name stands for one life of a process: whoever comes back with an earlier name is taken for the same. A
/// lease that has run out stays its last holder's until somebody else claims it, but cannot be renewed: it must be
/// claimed again, which keeps the epoch if nobody held it in between. Made twice, each call answers as made once.
pub trait Leases: Send + Sync {
    /// Takes a lease for `ttl` from now if nobody else holds it. Of those who claim at the same time one gets it.
    fn claim<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> StoreFuture<'a, Result<Claim, LeaseError>>;

    /// Makes it last `ttl` from now, if it is still held under that epoch and has not run out.
    fn renew<'a>(&'a self, lease: &'a Lease, ttl: Duration) -> StoreFuture<'a, Result<Lease, LeaseError>>;

    /// Gives it back. One that is not held any more is given back already.
    fn release<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, Result<(), LeaseError>>;
}

/// Checks what can be checked without knowing who holds what. Every store calls it before anything else.
///
/// # Errors
/// [`LeaseError::Invalid`].
pub fn check_lease(name: &str, holder: &str, ttl: Duration) -> Result<(), LeaseError> {
    let is_name =
        |name: &str| (1..=MAX_LEASE_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if is_name(name) && is_name(holder) && ttl <= MAX_LEASE_TTL { Ok(()) } else { Err(LeaseError::Invalid) }
}
