//! Problems.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, and what to do (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"type": "urn:cairn:problem:run-not-found", "title": "There is no such run", "status": 404,
    "detail": "there is no run apollo.9", "help": "GET /api/v1/runs lists the runs that your token may see"}))]
pub struct ProblemBody {
    /// The stable name of the problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, the same for all of its type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time.
    pub detail: String,
    /// What to do.
    pub help: String,
    /// What is wrong with a plan, in the order of its lines; of `invalid-plan` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticBody>,
    /// How many more things are wrong with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosticBody {
    /// `error`, or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// The line, from 1; `null` for what concerns the plan as a whole.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// How many characters are meant.
    pub length: Option<u32>,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub notes: Vec<NoteBody>,
}

/// Another place that explains a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteBody {
    /// What is there.
    pub message: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
}
