//! A state as data: what a snapshot keeps, and what a state is restored from. Plan, graph and order are not in it;
//! they are made anew from the plan.

use crate::loan::Loan;
use crate::order::Order;
use crate::state::{Facts, State};
use cairn_model::{Graph, Plan};
use std::sync::Arc;

/// The form of an [`Image`]. A snapshot of another form is passed over: the log has all of it. It rises with every
/// change of what is in a state, and of how a plan's tasks are classed or ordered: ready tasks are kept as places
/// in that order.
pub const IMAGE_FORM: u32 = 2;

/// What a fold over the events of a run has given.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Image(Facts);

/// An image that borrows the state it shows.
#[derive(Debug, serde::Serialize)]
pub struct ImageRef<'a>(&'a Facts);

impl State {
    /// The state as data.
    #[must_use]
    pub fn image(&self) -> ImageRef<'_> {
        ImageRef(&self.facts)
    }

    /// The state that an image shows; `None` if it is not one of a run of this plan.
    #[must_use]
    pub fn restore(plan: Arc<Plan>, graph: Arc<Graph>, image: Image) -> Option<Self> {
        let order = Arc::new(Order::new(&plan, &graph));
        let facts = image.0;
        let fits = facts.tasks.len() == plan.task_count()
            && facts.waiting.len() == graph.node_count()
            && facts.milestones.len() == plan.milestones().len()
            && facts.owned.len() == plan.milestones().len()
            && facts.ready.len() == order.classes().len()
            && (0..facts.ready.len()).all(|class| facts.ready[class].holds(order.class_size(class)))
            && facts.agents.iter().all(|agent| {
                agent.fits.len() == order.classes().len() && agent.used.len() == agent.spec.resources.len()
            });
        fits.then_some(Self { plan, graph, order, facts, loan: Loan::default() })
    }
}
