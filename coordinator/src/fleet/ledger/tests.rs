//! Runs that share agents.

use super::*;
use crate::insight::tests::plan_of;
use cairn_engine::{TaskStatus, decide};
use cairn_model::{
    AgentIndex, AgentSpec, Command, Outcome, Report, ReportKind, RunSubmitted, TaskIndex, Timestamp,
};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Runs over one fleet; each decides as its loop does.
struct Bench {
    ledger: Ledger,
    runs: BTreeMap<&'static str, State>,
    now: Timestamp,
}

fn agent(id: &str, slots: u32, label: Option<&str>) -> AgentSpec {
    let labels = label.map(|label| (label.to_owned(), "yes".to_owned())).into_iter().collect();
    AgentSpec { id: id.to_owned(), incarnation: 1, slots, timers: 10, labels, ..AgentSpec::default() }
}

impl Bench {
    fn new(agents: &[AgentSpec]) -> Self {
        let mut ledger = Ledger::default();
        for agent in agents {
            ledger.open(&agent.id, agent.slots, false);
        }
        Self { ledger, runs: BTreeMap::new(), now: Timestamp(0) }
    }

    /// A run of so many independent tasks, each of which asks for a label, if one is named.
    fn begin(&mut self, run: &'static str, tasks: usize, label: Option<&str>, agents: &[AgentSpec]) {
        let mut text = "version: 1\nproject: p\ntasks:\n".to_owned();
        let requires = label.map(|label| format!(", requires: {{{label}: \"yes\"}}")).unwrap_or_default();
        for task in 0..tasks {
            let _ = writeln!(text, "- {{id: t{task}, exec: [x]{requires}}}");
        }
        let (plan, graph) = plan_of(&text);
        self.runs.insert(run, State::new(Arc::new(plan), Arc::new(graph)));
        let submitted = RunSubmitted { run: run.to_owned(), ..RunSubmitted::default() };
        self.decide(run, Command::Submit(Box::new(submitted)));
        for agent in agents {
            self.decide(run, Command::AgentJoined(Box::new(agent.clone())));
        }
    }

    fn decide(&mut self, run: &'static str, command: Command) -> BTreeSet<String> {
        self.now = self.now.plus(Duration::from_millis(1));
        let state = self.runs.get_mut(run).expect("it was begun");
        state.lend(self.ledger.lend(run, state.agents(), &command));
        let _ = decide(state, command, self.now, &mut Vec::new()).expect("accepted");
        self.ledger.settle(run, state)
    }

    /// Lets everybody look who should, until nobody should any more; in how many looks.
    fn look(&mut self, mut waiting: BTreeSet<String>) -> usize {
        let mut looks = 0;
        while let Some(run) = waiting.pop_first() {
            let run = *self.runs.keys().find(|name| **name == run).expect("a run of the bench");
            waiting.extend(self.decide(run, Command::Tick));
            looks += 1;
            assert!(looks < 100, "runs wake each other for ever");
        }
        looks
    }

    /// One task of the run ends, and what follows.
    fn end_one(&mut self, run: &'static str) {
        let state = &self.runs[run];
        let out = |task: &TaskIndex| state.task(*task).status == TaskStatus::Dispatched;
        let task = state.plan().tasks().find(out).expect("something is out");
        let row = state.task(task);
        let kind =
            ReportKind::Finished { outcome: Outcome::Completed, started_at: self.now, finished_at: self.now };
        let (attempt, agent) = (row.attempt, row.agent().expect("it is out"));
        let waiting = self.decide(run, Command::Reports(vec![Report { task, attempt, agent, kind }]));
        self.look(waiting);
    }

    fn out(&self, run: &str) -> u32 {
        self.runs[run].slots_out()
    }
}

#[test]
fn what_one_has_taken_no_other_is_given() {
    let agents = [agent("a1", 4, None)];
    let mut bench = Bench::new(&agents);
    bench.begin("p.1", 10, None, &agents);
    bench.begin("p.2", 10, None, &agents);
    assert_eq!((bench.out("p.1"), bench.out("p.2")), (4, 0));
    assert_eq!(bench.ledger.hungry(), ["p.1", "p.2"].map(str::to_owned).into());
}

#[test]
fn what_becomes_free_goes_to_whoever_has_less_than_its_share() {
    let agents = [agent("a1", 4, None)];
    let mut bench = Bench::new(&agents);
    bench.begin("p.1", 100, None, &agents);
    bench.begin("p.2", 100, None, &agents);
    bench.end_one("p.1");
    assert_eq!((bench.out("p.1"), bench.out("p.2")), (3, 1));
    for _ in 0..10 {
        bench.end_one("p.1");
    }
    assert_eq!((bench.out("p.1"), bench.out("p.2")), (2, 2));
}

#[test]
fn a_third_run_gets_its_share_too() {
    let agents = [agent("a1", 3, None), agent("a2", 3, None)];
    let mut bench = Bench::new(&agents);
    for run in ["p.1", "p.2", "p.3"] {
        bench.begin(run, 1000, None, &agents);
    }
    for turn in 0..60 {
        let run = ["p.1", "p.2", "p.3"][turn % 3];
        if bench.out(run) > 0 {
            bench.end_one(run);
        }
    }
    assert_eq!(["p.1", "p.2", "p.3"].map(|run| bench.out(run)), [2, 2, 2]);
}

#[test]
fn a_run_that_is_not_hungry_leaves_all_to_the_others() {
    let agents = [agent("a1", 4, None)];
    let mut bench = Bench::new(&agents);
    bench.begin("p.1", 1, None, &agents);
    bench.begin("p.2", 10, None, &agents);
    assert_eq!((bench.out("p.1"), bench.out("p.2")), (1, 3));
    bench.end_one("p.1");
    assert_eq!(bench.out("p.2"), 4);
}

#[test]
fn what_the_others_cannot_use_does_not_stay_idle() {
    let agents = [agent("a1", 1, Some("gpu")), agent("a2", 5, None)];
    let mut bench = Bench::new(&agents);
    bench.begin("p.1", 100, None, &agents);
    bench.begin("p.2", 100, Some("gpu"), &agents);
    for _ in 0..20 {
        bench.end_one("p.1");
    }
    // The second can use one slot only, so the first is not held to half of six.
    assert_eq!((bench.out("p.1"), bench.out("p.2")), (5, 1));
}

#[test]
fn an_agent_that_takes_nothing_new_or_is_not_known_is_given_nothing() {
    let agents = [agent("a1", 4, None), agent("a2", 4, None)];
    let mut bench = Bench::new(&agents);
    bench.ledger.open("a1", 4, true);
    bench.ledger.remove("a2");
    bench.begin("p.1", 10, None, &agents);
    assert_eq!(bench.out("p.1"), 0);
    bench.ledger.open("a1", 4, false);
    let hungry = bench.ledger.hungry();
    bench.look(hungry);
    assert_eq!(bench.out("p.1"), 4);
    assert!(bench.runs["p.1"].usage().all(|(agent, of)| agent == AgentIndex(0) || of.slots_used == 0));
}

#[test]
fn the_end_of_a_run_wakes_those_that_wait() {
    let agents = [agent("a1", 4, None)];
    let mut bench = Bench::new(&agents);
    bench.begin("p.1", 10, None, &agents);
    bench.begin("p.2", 10, None, &agents);
    bench.runs.remove("p.1");
    let waiting = bench.ledger.forget("p.1");
    bench.look(waiting);
    assert_eq!(bench.out("p.2"), 4);
}
