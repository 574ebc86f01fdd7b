//! What a run may use of agents that it shares with other runs.
//!
//! Whoever runs several runs lends before each decision: how much the others use, who takes nothing new, and how much
//! this run may have out in all. Only the choice of an agent looks at it. It is no event and no part of a state's
//! equality or image: after a restart it is lent anew, and a run that nobody lends to has all that its agents have.

use crate::schedule;
use crate::state::{AgentState, State};
use cairn_model::AgentIndex;

/// What other runs leave of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loan {
    /// For each agent of the run, by its index, what the others have taken; of those beyond the end, nothing.
    pub agents: Vec<Taken>,
    /// Attempts in slots that the run may have out in all, because others are hungry too. Then no agent is given more
    /// than its slots either: what waits at an agent would run before what others have.
    pub most_slots: Option<u32>,
}

/// What other runs use of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Attempts that take a slot.
    pub slots: u32,
    /// Timers.
    pub timers: u32,
    /// Resources by name, in thousandths.
    pub resources: Vec<(String, u64)>,
    /// It takes nothing new: it drains, or is silent.
    pub closed: bool,
}

impl Taken {
    /// What is taken of a resource.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.resources.iter().find(|(taken, _)| taken == name).map_or(0, |(_, amount)| *amount)
    }
}

impl State {
    /// Lends to the next decisions, in place of what was lent before. A decision may be due because of it: see
    /// [`crate::next_deadline`].
    pub fn lend(&mut self, loan: Loan) {
        self.loan = loan;
    }

    /// What was lent last.
    #[must_use]
    pub fn loan(&self) -> &Loan {
        &self.loan
    }

    /// What other runs use of an agent, where anything was lent.
    #[must_use]
    pub fn taken(&self, agent: AgentIndex) -> Option<&Taken> {
        self.loan.agents.get(agent.get())
    }

    /// The agents that are not lost, with what the run uses of each. What a member took out of its pool stands with the
    /// pool.
    pub fn usage(&self) -> impl Iterator<Item = (AgentIndex, &AgentState)> {
        let agents = self.agents().iter().enumerate().filter(|(_, agent)| !agent.lost);
        agents.map(|(index, agent)| (AgentIndex::new(index), agent))
    }

    /// Attempts in slots that the run has out in all.
    #[must_use]
    pub fn slots_out(&self) -> u32 {
        self.agents().iter().map(|agent| agent.slots_used).sum()
    }

    /// Whether tasks are ready that some agent could run, were there room: after a decision, those that found none.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        schedule::has_waiting(self)
    }
}
