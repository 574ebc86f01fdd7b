//! Who may do what: one function, asked by every route about the object that it really touches.

use super::problem::{Problem, ProblemKind};
use super::tokens::Role;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cairn_model::RunId;
use cairn_model::ids::is_project_id;
use std::sync::Arc;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at runs of a project.
    View,
    /// Submit a plan of a project.
    Submit,
    /// Pause, resume, cancel or retry runs of a project.
    Act,
    /// Look at the fleet.
    ViewFleet,
    /// Drain agents.
    Drain,
    /// Make, list and revoke tokens.
    ManageTokens,
    /// Look at checks.
    ViewHealth,
    /// Look at metrics, which name all projects.
    ViewMetrics,
}

/// Whether a role, bound to these projects (none: all), may do something to an object of `project` (none: of no
/// project).
#[must_use]
pub fn may(role: Role, projects: &[String], action: Action, project: Option<&str>) -> bool {
    let by_role = match action {
        Action::View | Action::ViewFleet | Action::ViewHealth | Action::ViewMetrics => role != Role::Agent,
        Action::Submit | Action::Act => matches!(role, Role::Submitter | Role::Operator | Role::Admin),
        Action::Drain => matches!(role, Role::Operator | Role::Admin),
        Action::ManageTokens => role == Role::Admin,
    };
    let is_bound = !projects.is_empty();
    let in_scope = match (action, project) {
        // These touch every project at once.
        (Action::Drain | Action::ManageTokens | Action::ViewMetrics, _) => !is_bound,
        (_, Some(project)) => !is_bound || projects.iter().any(|own| own == project),
        // Lists, which leave out what the token may not see.
        (_, None) => true,
    };
    by_role && in_scope
}

/// Who asks. Put into a request by the gate, once its token was found good.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The id of the token.
    pub token: Arc<str>,
    /// Its name, under which events are written.
    pub name: Arc<str>,
    pub role: Role,
    pub projects: Arc<[String]>,
}

/// A run as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunName {
    /// `PROJECT.N`, or `PROJECT`.
    pub text: String,
}

impl Caller {
    pub(super) fn may(&self, action: Action, project: Option<&str>) -> bool {
        may(self.role, &self.projects, action, project)
    }

    /// Refuses what the token does not allow.
    pub(super) fn check(&self, action: Action, project: Option<&str>) -> Result<(), Problem> {
        if self.may(action, project) {
            return Ok(());
        }
        let of = project.map_or_else(String::new, |project| format!(" in project {project}"));
        let detail = format!(
            "the token of {} has the role {} {}, which does not allow that{of}",
            self.name,
            self.role.name(),
            self.bounds()
        );
        let help = "ask an administrator for a token that does: `cairn token create`";
        Err(Problem::new(ProblemKind::Forbidden, detail, help))
    }

    fn bounds(&self) -> String {
        match self.projects.len() {
            0 => "for all projects".to_owned(),
            _ => format!("for {}", self.projects.join(", ")),
        }
    }

    /// The run of that name, if the token allows the action on it; the project stands in the name, so nothing is
    /// looked up for those who may not know whether it is there.
    pub(super) fn on_run(&self, action: Action, text: &str) -> Result<RunName, Problem> {
        let run = RunId::parse(text);
        let project = match &run {
            Some(run) => run.project(),
            None if is_project_id(text) => text,
            None => return Err(Problem::no_such_run(&text.chars().take(200).collect::<String>())),
        };
        self.check(action, Some(project))?;
        Ok(RunName { text: text.to_owned() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The gate lets nothing else pass.
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_token_reaches_its_projects_only() {
        let own = ["apollo".to_owned()];
        assert!(may(Role::Submitter, &own, Action::Submit, Some("apollo")));
        assert!(!may(Role::Submitter, &own, Action::Submit, Some("apollo-2")));
        assert!(!may(Role::Admin, &own, Action::View, Some("zeus")));
        assert!(may(Role::Admin, &own, Action::View, None), "a list leaves out what is not its own");
    }

    #[test]
    fn what_touches_all_projects_is_not_for_bound_tokens() {
        let own = ["apollo".to_owned()];
        assert!(
            may(Role::Operator, &[], Action::Drain, None) && !may(Role::Operator, &own, Action::Drain, None)
        );
        assert!(!may(Role::Admin, &own, Action::ManageTokens, None));
        assert!(may(Role::Viewer, &[], Action::ViewMetrics, None));
        assert!(!may(Role::Viewer, &own, Action::ViewMetrics, None));
    }
}
