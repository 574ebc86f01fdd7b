//! Who uses what of the fleet, so that many runs share it fairly and none gives out what another has.
//!
//! A run's loop borrows before each decision and settles after it, under one lock: decisions are short and never wait.
//! A run that finds room is given it. Where several are *hungry* (tasks are ready and found no room) each may have an
//! equal share of the slots out; what the others had the chance to take and left is anybody's.
//!
//! Pure; the lock and the waking are the caller's.

use cairn_engine::{AgentState, Loan, State, Taken};
use cairn_model::{AgentSpec, Command};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a run uses of an agent.
type Use = Taken;

#[derive(Debug, Default)]
struct Borrower {
    /// By the agent's name; agents of which it uses nothing are left out.
    uses: BTreeMap<String, Use>,
    slots: u32,
    is_hungry: bool,
    /// The release after which it decided last.
    decided_at: u64,
}

/// An agent, or a pool, of which all runs use.
#[derive(Debug)]
struct Lender {
    slots: u32,
    is_closed: bool,
}

/// Who uses what.
#[derive(Debug, Default)]
pub struct Ledger {
    lenders: HashMap<String, Lender>,
    runs: BTreeMap<String, Borrower>,
    /// Counts how often something became free.
    releases: u64,
}

impl Ledger {
    /// An agent is there, with so many slots, and takes work or not. Runs must be told to look again.
    pub fn open(&mut self, agent: &str, slots: u32, is_closed: bool) {
        self.lenders.insert(agent.to_owned(), Lender { slots, is_closed });
        self.releases += 1;
    }

    /// An agent is gone.
    pub fn remove(&mut self, agent: &str) {
        self.lenders.remove(agent);
    }

    /// What is known of an agent: its slots, and whether it takes nothing new.
    #[must_use]
    pub fn lender(&self, agent: &str) -> Option<(u32, bool)> {
        self.lenders.get(agent).map(|lender| (lender.slots, lender.is_closed))
    }

    /// What the other runs leave to this one, for a decision about `command`: an agent that joins by it is the last of
    /// the run's agents, and may be used at once.
    #[must_use]
    pub fn lend(&self, run: &str, agents: &[AgentState], command: &Command) -> Loan {
        let others = || self.runs.iter().filter(|(name, _)| *name != run).map(|(_, other)| other);
        let taken = |agent: &AgentSpec| {
            let closed = self.lenders.get(&agent.id).is_none_or(|lender| lender.is_closed);
            let mut taken = Taken { closed, ..Taken::default() };
            for of in others().filter_map(|other| other.uses.get(&agent.id)) {
                taken.slots += of.slots;
                taken.timers += of.timers;
                for (name, amount) in &of.resources {
                    match taken.resources.iter_mut().find(|(known, _)| known == name) {
                        Some((_, sum)) => *sum += amount,
                        None => taken.resources.push((name.clone(), *amount)),
                    }
                }
            }
            taken
        };
        let known = agents.iter().map(|agent| if agent.lost { Taken::default() } else { taken(&agent.spec) });
        let joining = match command {
            Command::AgentJoined(spec) => Some(taken(spec)),
            _ => None,
        };
        Loan { agents: known.chain(joining).collect(), most_slots: self.most_slots(run) }
    }

    fn most_slots(&self, run: &str) -> Option<u32> {
        let hungry = self.runs.iter().filter(|(name, other)| *name != run && other.is_hungry);
        let rivals = u32::try_from(hungry.clone().count()).unwrap_or(u32::MAX);
        if rivals == 0 {
            return None;
        }
        let all: u32 =
            self.lenders.values().filter(|lender| !lender.is_closed).map(|lender| lender.slots).sum();
        let share = all.div_ceil(rivals + 1).max(1);
        let had_their_chance = hungry.into_iter().all(|(_, other)| other.decided_at >= self.releases);
        let used: u32 = self.runs.values().map(|borrower| borrower.slots).sum();
        match all.saturating_sub(used) {
            // What they had the chance to take and left they cannot use.
            free @ 1.. if had_their_chance => {
                let own = self.runs.get(run).map_or(0, |borrower| borrower.slots);
                Some(share.max(own + free))
            }
            _ => Some(share),
        }
    }

    /// A run has decided. The runs that should look again now, because of it: those that are hungry, when something
    /// became free; those that were held to their share, when this one left something that it could have had.
    #[must_use]
    pub fn settle(&mut self, run: &str, state: &State) -> BTreeSet<String> {
        let uses: BTreeMap<_, _> = state
            .usage()
            .filter(|(_, agent)| agent.slots_used > 0 || agent.timers_used > 0)
            .map(|(_, agent)| (agent.spec.id.clone(), use_of(agent)))
            .collect();
        let slots = uses.values().map(|of| of.slots).sum();
        let borrower = self.runs.entry(run.to_owned()).or_default();
        let (was_hungry, had) = (borrower.is_hungry, borrower.slots);
        let frees = slots < had || borrower.uses.iter().any(|(agent, of)| frees(of, uses.get(agent)));
        if frees {
            self.releases += 1;
        }
        let had_its_chance = borrower.decided_at < self.releases;
        borrower.decided_at = self.releases;
        borrower.uses = uses;
        borrower.slots = slots;
        borrower.is_hungry = state.is_hungry();
        let concerns_others = frees || had_its_chance || (was_hungry && !borrower.is_hungry);
        if !concerns_others {
            return BTreeSet::new();
        }
        let others = self.runs.iter().filter(|(name, other)| *name != run && other.is_hungry);
        // Once a run has had its chance after a release, another look at the same finds the same.
        others.map(|(name, _)| name.clone()).collect()
    }

    /// A run is over, or another owner's. The runs that should look again.
    #[must_use]
    pub fn forget(&mut self, run: &str) -> BTreeSet<String> {
        self.runs.remove(run);
        self.releases += 1;
        self.hungry()
    }

    /// The runs that have ready tasks without room.
    #[must_use]
    pub fn hungry(&self) -> BTreeSet<String> {
        self.runs.iter().filter(|(_, run)| run.is_hungry).map(|(name, _)| name.clone()).collect()
    }
}

/// Whether less is used now than before.
fn frees(before: &Use, now: Option<&Use>) -> bool {
    let Some(now) = now else { return true };
    let fewer = |(name, amount): &(String, u64)| now.of(name) < *amount;
    now.slots < before.slots || now.timers < before.timers || before.resources.iter().any(fewer)
}

fn use_of(agent: &AgentState) -> Use {
    let resources = agent.resources_used().filter(|(_, amount)| *amount > 0);
    let resources = resources.map(|(name, amount)| (name.to_owned(), amount)).collect();
    Use { slots: agent.slots_used, timers: agent.timers_used, resources, closed: false }
}

#[cfg(test)]
mod tests;
