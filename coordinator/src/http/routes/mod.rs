//! The routes. Each asks [`Caller`](super::access::Caller) before it looks at anything.

pub(super) mod agents;
pub(super) mod events;
pub(super) mod insight;
pub(super) mod logs;
pub(super) mod probes;
pub(super) mod runs;
pub(super) mod submit;
pub(super) mod tasks;
pub(super) mod tokens;
pub(super) mod wishes;
