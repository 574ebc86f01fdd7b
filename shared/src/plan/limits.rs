//! How much a plan may be. Every limit has a name, and going past it is reported with that name.

use super::diagnostic::{Finding, Span};
use super::words::grouped;
use cairn_model::plan::{MAX_EDGES, MAX_PLAN_BYTES, MAX_TASK_BYTES, MAX_TASKS};

/// How much a plan may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the plan's text.
    pub plan_bytes: usize,
    /// Bytes of the plan after aliases, defaults and parameters are put in.
    pub expanded_bytes: usize,
    /// Tasks; there may be as many milestones.
    pub tasks: usize,
    /// Needs as written.
    pub edges: usize,
    /// Bytes of one task, with all that it inherits or takes from aliases.
    pub task_bytes: usize,
    /// Values in the document (keys, scalars, lists, mappings), each alias counted as what it stands for.
    pub nodes: usize,
    /// Lists and mappings inside each other.
    pub depth: usize,
}

impl Limits {
    /// For a plan read on the machine of its user.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            plan_bytes: MAX_PLAN_BYTES,
            expanded_bytes: 4 * MAX_PLAN_BYTES,
            tasks: MAX_TASKS,
            edges: MAX_EDGES,
            task_bytes: MAX_TASK_BYTES,
            // A million tasks of 30 values with ten million needs, and room.
            nodes: 64_000_000,
            depth: 64,
        }
    }

    /// For a plan that came over the network: a quarter of the text, and of what can be made of it.
    #[must_use]
    pub const fn http() -> Self {
        let local = Self::local();
        Self {
            plan_bytes: local.plan_bytes / 4,
            expanded_bytes: local.expanded_bytes / 4,
            nodes: local.nodes / 4,
            ..local
        }
    }

    /// What is wrong with a plan of so many bytes, if anything.
    #[must_use]
    pub(crate) fn too_large(&self, bytes: usize) -> Option<Finding> {
        // Offsets are 32 bits wide whatever the limit says.
        let limit = self.plan_bytes.min(u32::MAX as usize - 1);
        (bytes > limit).then(|| {
            let message = format!(
                "the plan has {} bytes, more than the limit `plan_bytes` of {}",
                grouped(bytes),
                grouped(limit)
            );
            Finding::unplaced(message).help("divide it into several plans")
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::local()
    }
}

/// A finding about collections inside collections.
pub(crate) fn too_deep(at: Span, limits: &Limits) -> Finding {
    exceeded(at, "lists and mappings stand too deep in each other", "depth", limits.depth)
}

/// A finding about a limit of the contract.
pub(crate) fn exceeded(at: Span, what: &str, name: &str, limit: usize) -> Finding {
    Finding::error(at, format!("{what}: the limit `{name}` is {}", grouped(limit)))
}
