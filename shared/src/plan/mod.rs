//! The plan language: from the text of a plan to a validated [`Plan`], or to what is wrong with it.
//!
//! ```text
//! text ──▶ json or yaml ──▶ tree ──▶ reader ──▶ Plan, Positions, warnings
//!            (syntax)    (values with  (meaning)     or Diagnostics: all errors at once,
//!                          places)                   each with its line and what to write instead
//! ```
//!
//! The contract: a plan that is given out keeps to every rule of the language that concerns a part of it: known
//! keys, readable values, unique ids, needs that exist, limits. Whether needs form a cycle is seen in the graph
//! ([`Parsed::graph`]). No input panics, and what a hostile one costs is bounded by [`Limits`].
//!
//! What is inherited, nearest first: a task's own keys, its milestone's `defaults` (and `priority`), the plan's
//! `defaults`, the plan's `env`. Environments are merged by name; any other key replaces all that was inherited.
//! `defaults` has the keys `env working_dir timeout retry resources requires at_most_once continue_on_error`.
//!
//! Any scalar but nothing is text where text is expected, as it is written: `env: {PORT: 8080}` is `"8080"`, and
//! `run: true` runs `true`.
//!
//! Not here: files, the command line, colours of a terminal.

mod cycle;
pub(crate) mod diagnostic;
mod expression;
pub mod import;
mod json;
mod keys;
mod limits;
mod reader;
mod render;
pub(crate) mod scalar;
mod schema;
pub(crate) mod source;
pub(crate) mod tree;
pub(crate) mod words;
mod yaml;

#[cfg(test)]
mod tests;

pub use cycle::{Positions, describe_cycle};
pub use diagnostic::{Diagnostic, Diagnostics, MAX_KEPT, MAX_SHOWN, Note, Place, Severity};
pub use limits::Limits;
pub use reader::{MAX_ATTEMPTS, MAX_PRIORITY};
pub use scalar::{MAX_AMOUNT_THOUSANDTHS, MAX_DURATION};
pub use schema::json_schema;
pub use source::Source;

use cairn_model::graph::Graph;
use cairn_model::plan::Plan;
use diagnostic::{Finding, Findings};
use reader::Reader;
use tree::{Tree, TreeBuilder};

/// What a plan is read with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Values of parameters by name; of two for the same name the last counts.
    pub params: &'a [(String, String)],
    /// How much the plan may be.
    pub limits: Limits,
}

/// A plan that was read.
#[derive(Debug)]
pub struct Parsed {
    /// The plan.
    pub plan: Plan,
    /// Where its parts are written.
    pub positions: Positions,
    /// What is probably meant otherwise.
    pub warnings: Diagnostics,
}

/// Reads a duration as plans have them: `90s`, `1h30m`, `2d`.
///
/// # Errors
/// It is none: what to write instead.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    scalar::duration(text).map_err(|misfit| format!("{}: {}", misfit.message, misfit.help))
}

impl Parsed {
    /// The graph of the plan.
    ///
    /// # Errors
    /// If there is a cycle: the whole of it by name, with its lines.
    pub fn graph(&self, source: &Source) -> Result<Graph, Diagnostics> {
        Graph::new(&self.plan).map_err(|cycle| {
            let steps = cycle.steps(&self.plan);
            Diagnostics::one(&source.name, describe_cycle(source, &self.positions, &self.plan, &steps))
        })
    }
}

/// Reads a plan from YAML or JSON.
///
/// # Errors
/// All that is wrong with it, in the order of its lines.
pub fn parse(source: &Source, options: &Options<'_>) -> Result<Parsed, Diagnostics> {
    let mut findings = Findings::default();
    let tree = match document(source, &options.limits, &mut findings) {
        Ok(tree) => tree,
        Err(finding) => {
            findings.add(*finding);
            return Err(findings.diagnostics(source));
        }
    };
    let (read, findings) = Reader::read(&tree, options, findings);
    let diagnostics = findings.diagnostics(source);
    match read {
        Some((plan, positions)) => Ok(Parsed { plan, positions, warnings: diagnostics }),
        None => Err(diagnostics),
    }
}

/// The document in a plan's text.
pub(crate) fn document<'s>(
    source: &'s Source,
    limits: &Limits,
    findings: &mut Findings,
) -> Result<Tree<'s>, Box<Finding>> {
    let text = source.text.as_str();
    if let Some(finding) = limits.too_large(text.len()) {
        return Err(Box::new(finding));
    }
    if json::is_likely(text) {
        let mut builder = TreeBuilder::new(text, limits);
        match json::read(text, &mut builder) {
            Ok(()) => return Ok(builder.finish()),
            Err(json::Stop::Refused(finding)) => return Err(finding),
            Err(json::Stop::NotJson) => {}
        }
    }
    let mut builder = TreeBuilder::new(text, limits);
    yaml::read(text, limits, &mut builder, findings)?;
    Ok(builder.finish())
}
