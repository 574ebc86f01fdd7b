//! Where read models are kept.

use cairn_coordinator::projection::models::{MemoryModels, ReadModels};
use std::sync::Arc;

/// One place, empty at first.
pub trait Fixture {
    fn new() -> Self
    where
        Self: Sized;

    /// The models there, as a process that starts finds them.
    fn open(&self) -> Arc<dyn ReadModels>;

    /// Whether what is needed is installed here; if not, that is told.
    fn is_available() -> bool
    where
        Self: Sized,
    {
        true
    }
}

/// The memory of this process.
pub struct InMemory(Arc<MemoryModels>);

impl Fixture for InMemory {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn open(&self) -> Arc<dyn ReadModels> {
        self.0.clone()
    }
}
