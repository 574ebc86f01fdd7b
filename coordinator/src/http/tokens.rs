//! Tokens: who may do what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To look.
    Viewer,
    /// And to submit plans, and act on runs.
    Submitter,
    /// And to act on the fleet.
    Operator,
    /// And to manage tokens.
    Admin,
    /// What an agent needs.
    Agent,
    /// What another coordinator needs.
    Coordinator,
}
