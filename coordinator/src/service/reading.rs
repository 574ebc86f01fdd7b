//! A plan that came over the network, read once: whoever lets it in and whoever runs it work with the same.

use cairn_model::{Graph, Plan};
use cairn_shared::plan::{Diagnostics, Limits, Options, Source, parse};
use std::sync::Arc;

/// A plan as it was sent, and what it says. Only [`read`](Self::read) makes one, so it is valid, and within the limits
/// for strangers. Cheap to clone but for its text.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    name: String,
    text: String,
    parameters: Vec<(String, String)>,
    plan: Arc<Plan>,
    graph: Arc<Graph>,
}

impl ReadPlan {
    /// Reads a plan that is called `name` where it came from. It takes time and memory: not for a thread that serves.
    ///
    /// # Errors
    /// It is larger than a stranger's may be ([`Limits::http`]), or not valid: where and why.
    pub fn read(
        name: &str,
        bytes: Vec<u8>,
        mut parameters: Vec<(String, String)>,
    ) -> Result<Self, Diagnostics> {
        let limits = Limits::http();
        parameters.sort();
        let source = Source::from_bytes(name, bytes, &limits)?;
        let parsed = parse(&source, &Options { params: &parameters, limits })?;
        let graph = parsed.graph(&source)?;
        let (plan, graph) = (Arc::new(parsed.plan), Arc::new(graph));
        Ok(Self { name: name.to_owned(), text: source.text, parameters, plan, graph })
    }

    /// What the plan was called where it came from.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Values of parameters, sorted.
    #[must_use]
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// What it says.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// In which order.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "version: 1\nproject: apollo\nparameters: {one: {default: a}, two: {default: b}}\ntasks: [{id: a, run: x}]\n";

    #[test]
    fn a_plan_is_read_with_its_parameters_in_order() {
        let parameters =
            [("two", "2"), ("one", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = ReadPlan::read("plan.yaml", PLAN.into(), parameters.to_vec()).expect("a plan");
        assert_eq!((read.name(), read.text(), read.plan().project.as_str()), ("plan.yaml", PLAN, "apollo"));
        assert_eq!(read.parameters(), [parameters[1].clone(), parameters[0].clone()]);
        assert_eq!(
            read.graph().node_count(),
            cairn_model::Graph::new(read.plan()).expect("no cycle").node_count()
        );
    }

    #[test]
    fn what_is_no_plan_or_too_large_for_a_stranger_is_none() {
        let refused = |bytes: Vec<u8>| ReadPlan::read("plan.yaml", bytes, Vec::new()).is_err();
        assert!(refused(b"version: 1\n".to_vec()));
        assert!(refused(vec![0xff]));
        let mut large = b"version: 1\nproject: apollo\ntasks: [{id: a, run: x}]\n#".to_vec();
        large.resize(Limits::http().plan_bytes, b'x');
        assert!(!refused(large.clone()));
        large.push(b'x');
        assert!(refused(large));
        let cycle = "version: 1\nproject: apollo\ntasks: [{id: a, run: x, needs: [b]}, {id: b, run: x, needs: [a]}]\n";
        assert!(refused(cycle.into()));
    }
}
