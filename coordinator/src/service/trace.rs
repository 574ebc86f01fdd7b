//! Which trace a run is.

use cairn_model::RunSubmitted;
use cairn_shared::message::trace::TraceContext;
use sha2::{Digest as _, Sha256};

/// The trace context of a run. It follows from the run's first event, so whoever owns the run says the same. The
/// moment of the submission (in the seed) and the plan tell runs of a name at different coordinators apart.
pub(super) fn of_run(submitted: &RunSubmitted) -> TraceContext {
    let mut hash = Sha256::new();
    // No name of a run and no hash of a plan has a line's end.
    hash.update(format!("{}\n{}\n{}", submitted.run, submitted.plan_hash, submitted.options.seed));
    TraceContext::of_digest(&hash.finalize().into())
}
