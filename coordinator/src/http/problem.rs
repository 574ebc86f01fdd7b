//! What went wrong, told in one form (RFC 9457): a stable type, and what to do.

use super::model::{DiagnosticBody, NoteBody, ProblemBody};
use crate::service::{Gone, SubmitError, WishError};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_shared::plan::{Diagnostic, Diagnostics};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $status:literal, $title:literal;)*) => {
        /// The types of problems. Their names are kept once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => concat!("urn:cairn:problem:", $name),)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// What it is, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

kinds! {
    /// Path, query, header or body are not of the form that is described.
    InvalidRequest = "invalid-request", 400, "The request is not of the right form";
    /// There is no token, or not a good one.
    Unauthenticated = "unauthenticated", 401, "A good token is needed";
    /// The token does not allow it.
    Forbidden = "forbidden", 403, "The token does not allow that";
    /// There is no such route.
    NotFound = "not-found", 404, "There is no such resource";
    /// There is no such run.
    RunNotFound = "run-not-found", 404, "There is no such run";
    /// The run has no such milestone or task.
    PartNotFound = "part-not-found", 404, "The run has no such milestone or task";
    /// The task has no such attempt.
    LogNotFound = "log-not-found", 404, "There is no such log";
    /// There is no such agent.
    AgentNotFound = "agent-not-found", 404, "There is no such agent";
    /// There is no such token.
    TokenNotFound = "token-not-found", 404, "There is no such token";
    /// The resource is not for that method.
    MethodNotAllowed = "method-not-allowed", 405, "The resource does not know that method";
    /// The body did not arrive in time.
    Timeout = "timeout", 408, "The request did not arrive in time";
    /// The run or task is not in a state for it.
    NotPossibleNow = "not-possible-now", 409, "That is not possible in this state";
    /// The idempotency key belongs to another request.
    KeyReused = "key-reused", 409, "The idempotency key was used for something else";
    /// A token has that name.
    NameTaken = "name-taken", 409, "The name is in use";
    /// The body is larger than the limit.
    TooLarge = "too-large", 413, "The body is too large";
    /// The body has another type than those that are read here.
    UnsupportedMediaType = "unsupported-media-type", 415, "The body is of a type that is not read here";
    /// The host of the request is not one of this coordinator's.
    WrongHost = "wrong-host", 421, "The request is for another host";
    /// The plan cannot be used.
    InvalidPlan = "invalid-plan", 422, "The plan is not valid";
    /// More requests than the token may make.
    TooManyRequests = "too-many-requests", 429, "Too many requests";
    /// More open streams than the token may have.
    TooManyFollowers = "too-many-followers", 429, "Too many open streams";
    /// More runs than may be active.
    TooManyRuns = "too-many-runs", 429, "Too many active runs";
    /// A defect of this program.
    Internal = "internal", 500, "The coordinator has a defect";
    /// The coordinator cannot do that now.
    Unavailable = "unavailable", 503, "The coordinator cannot do that now";
}

/// A request that was not done.
#[derive(Debug)]
pub struct Problem {
    body: Box<ProblemBody>,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem: what it is this time, and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>, help: impl Into<String>) -> Self {
        let body = ProblemBody {
            kind: kind.name().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            help: help.into(),
            diagnostics: Vec::new(),
            omitted: 0,
        };
        Self { body: Box::new(body), retry_after_seconds: None }
    }

    /// A problem that will be over after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Something is not of the form that is described.
    pub fn invalid(detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(ProblemKind::InvalidRequest, detail, help)
    }

    /// The coordinator cannot do that now.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        let help = "try again in a few seconds; a write with the same Idempotency-Key is done only once";
        Self::new(ProblemKind::Unavailable, reason, help).retry_after(5)
    }

    /// A defect of this program, of which only its log tells more.
    pub fn internal() -> Self {
        let help = "report it with the coordinator's log of that moment";
        Self::new(ProblemKind::Internal, "the request could not be worked on", help)
    }

    /// A run that the log does not have.
    pub fn no_such_run(run: &str) -> Self {
        let detail = format!("there is no run {}", run.escape_debug());
        let help = "GET /api/v1/runs lists the runs that your token may see";
        Self::new(ProblemKind::RunNotFound, detail, help)
    }

    /// A milestone or task that a run does not have.
    pub fn no_such_part(run: &str, what: &str) -> Self {
        let detail = format!("run {run} has no {}", what.escape_debug());
        let help = format!("GET /api/v1/runs/{run}/tasks lists its tasks");
        Self::new(ProblemKind::PartNotFound, detail, help)
    }

    /// What is wrong with a plan.
    pub fn invalid_plan(diagnostics: &Diagnostics) -> Self {
        let count = diagnostics.len();
        let things = if count == 1 { "1 thing is" } else { &format!("{count} things are") };
        let help = "correct the plan; `cairn validate PLAN` shows the lines, too";
        let mut problem =
            Self::new(ProblemKind::InvalidPlan, format!("{things} wrong with {}", diagnostics.file), help);
        problem.body.diagnostics = diagnostics.diagnostics.iter().map(diagnostic).collect();
        problem.body.omitted = diagnostics.omitted;
        problem
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn diagnostic(found: &Diagnostic) -> DiagnosticBody {
    let severity = match found.severity {
        cairn_shared::plan::Severity::Error => "error",
        cairn_shared::plan::Severity::Warning => "warning",
    };
    let notes = found.notes.iter().map(|note| NoteBody {
        message: note.message.clone(),
        line: note.place.as_ref().map(|place| place.line),
        column: note.place.as_ref().map(|place| place.column),
    });
    DiagnosticBody {
        severity: severity.to_owned(),
        message: found.message.clone(),
        line: found.place.as_ref().map(|place| place.line),
        column: found.place.as_ref().map(|place| place.column),
        length: found.place.as_ref().map(|place| place.length),
        help: found.help.clone().or_else(|| found.label.clone()),
        notes: notes.collect(),
    }
}

/// The type of the bodies of problems.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        let mut insert = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
        if status == StatusCode::UNAUTHORIZED {
            insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cairn\""));
        }
        if let Some(seconds) = self.retry_after_seconds {
            insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::unavailable(gone.to_string())
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::KeyReused { run, .. } => {
                let help = format!("use another Idempotency-Key for this plan, or look at run {run}");
                Self::new(ProblemKind::KeyReused, detail, help)
            }
            SubmitError::TooMany { .. } => {
                let help = "wait until a run has ended, or cancel one";
                Self::new(ProblemKind::TooManyRuns, detail, help).retry_after(30)
            }
            SubmitError::Unavailable { .. } => Self::unavailable(detail),
        }
    }
}

impl From<WishError> for Problem {
    fn from(error: WishError) -> Self {
        let detail = error.to_string();
        match error {
            WishError::NoSuchRun { run } => Self::no_such_run(&run),
            WishError::NoSuchPart { run, what } => Self::no_such_part(&run, &what),
            WishError::NoSuchAgent { .. } => {
                Self::new(ProblemKind::AgentNotFound, detail, "GET /api/v1/agents lists the agents")
            }
            WishError::Rejected(_) => {
                let help = "GET /api/v1/runs/{run} tells where the run and its tasks stand";
                Self::new(ProblemKind::NotPossibleNow, detail, help)
            }
            WishError::Unreadable { run, .. } => {
                let help = format!(
                    "its events can still be read: GET /api/v1/runs/{run}/events; `cairn store verify` checks the store"
                );
                Self::new(ProblemKind::Unavailable, detail, help)
            }
            WishError::Busy => Self::unavailable(detail).retry_after(1),
            WishError::Unavailable { .. } => Self::unavailable(detail),
        }
    }
}
