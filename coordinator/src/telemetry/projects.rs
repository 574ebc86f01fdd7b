//! Which projects and milestones metrics tell apart: as many as were set, first come. A series, once begun, stays as
//! long as the process, so there must not be one for every name that anybody thinks of.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// Milestones with a due date that metrics tell apart in a project; of a plan with more, those due first.
pub const MAX_DUE_MILESTONES: usize = 50;

/// The projects that metrics tell apart. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Projects {
    limit: usize,
    known: Arc<Mutex<HashMap<String, Project>>>,
}

#[derive(Debug, Default)]
struct Project {
    newest_run: u64,
    milestones: Vec<String>,
}

impl Projects {
    /// At most `limit` of them.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, known: Arc::default() }
    }

    /// Run `number` of the project is there. Whether the project has series of its own.
    pub(super) fn enter(&self, project: &str, number: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.len();
        let entry = match known.entry(project.to_owned()) {
            Entry::Vacant(_) if count >= self.limit => return false,
            entry => entry.or_default(),
        };
        entry.newest_run = entry.newest_run.max(number);
        true
    }

    /// Whether this is the newest run of the project that has been seen.
    pub(super) fn is_newest(&self, project: &str, number: u64) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(project).is_some_and(|project| project.newest_run == number)
    }

    /// Whether the milestone has a series of its own.
    pub(super) fn enter_milestone(&self, project: &str, milestone: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(project) = known.get_mut(project) else { return false };
        if project.milestones.iter().any(|known| known == milestone) {
            return true;
        }
        let has_room = project.milestones.len() < MAX_DUE_MILESTONES;
        if has_room {
            project.milestones.push(milestone.to_owned());
        }
        has_room
    }
}
