//! Identifiers. Rows of a plan are addressed by index; what a person or a log sees is their name.

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The index of row `index` of a table.
            ///
            /// # Panics
            /// If `index` does not fit into 32 bits; plans are limited far below.
            #[must_use]
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("a table has fewer than 2^32 rows"))
            }

            /// The position in a table.
            #[must_use]
            pub const fn get(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

index! {
    /// A task, counted through the whole plan in the order of the plan.
    TaskIndex
}
index! {
    /// A milestone, in the order of the plan.
    MilestoneIndex
}
index! {
    /// A node of the graph: a task, or the start or end barrier of a milestone.
    NodeIndex
}
index! {
    /// An agent, in the order in which a run came to know it.
    AgentIndex
}

/// One execution of a project's plan, `PROJECT.N`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    project: String,
    number: u64,
}

impl RunId {
    /// Run `number` (from 1) of `project`.
    #[must_use]
    pub fn new(project: impl Into<String>, number: u64) -> Self {
        Self { project: project.into(), number }
    }

    /// Reads `PROJECT.N`; `None` if it is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (project, number) = text.rsplit_once('.')?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
        (digits && is_project_id(project)).then_some(())?;
        Some(Self::new(project, number.parse().ok()?))
    }

    /// The project that this is a run of.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Which run of the project, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.project, self.number)
    }
}

/// Longest project id, in bytes.
pub const MAX_PROJECT_ID_BYTES: usize = 63;
/// Longest id of a milestone or task, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Whether `text` is `[a-z0-9][a-z0-9-]{0,62}`.
#[must_use]
pub fn is_project_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_PROJECT_ID_BYTES).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether `text` is `[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}`, the form of milestone and task ids.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_ID_BYTES).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'#' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_read_back_what_they_print() {
        let id = RunId::new("apollo-1", 3);
        assert_eq!(RunId::parse(&id.to_string()), Some(id));
        for bad in ["apollo", "apollo.", "apollo.x", "apollo.03", "Apollo.1", ".1", "a.-1", "a.+1"] {
            assert_eq!(RunId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_keep_to_their_alphabet() {
        assert!(is_id("a") && is_id("_x.#-9") && is_id(&"a".repeat(128)));
        assert!(!is_id("") && !is_id(".a") && !is_id("-a") && !is_id("a/b") && !is_id(&"a".repeat(129)));
        assert!(is_project_id("0a-") && !is_project_id("-a") && !is_project_id("A"));
        assert!(is_project_id(&"a".repeat(63)) && !is_project_id(&"a".repeat(64)));
    }
}
