//! Agents that go away.

use super::rig::Rig;
use crate::recover;
use cairn_model::{AgentIndex, Command, Outcome, ReportKind, RunOptions};

#[test]
fn the_work_of_a_lost_agent_goes_to_another() {
    let mut rig = Rig::new("m: a; b; c once; d<-c allow", &["one 3", "two 1"]);
    rig.starts("a");
    rig.loses(AgentIndex(0));
    assert_eq!(rig.statuses(), ["a dispatched", "b ready", "c failed", "d skipped"]);
    assert_eq!(rig.state.task(rig.task("a")).agent(), Some(AgentIndex(1)));
    rig.complete_all();
    assert_eq!(rig.run_status(), "failed");
}

#[test]
fn a_late_report_of_a_lost_agent_changes_nothing() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    let kind =
        ReportKind::Finished { outcome: Outcome::Completed, started_at: rig.now, finished_at: rig.now };
    let report = rig.report("a", kind);
    rig.loses(AgentIndex(0));
    rig.give(Command::Reports(vec![report.clone()]));
    assert_eq!((rig.status("a"), rig.stale_reports), ("ready", 1));
    rig.join("one 1");
    rig.give(Command::Reports(vec![report]));
    assert_eq!((rig.status("a"), rig.stale_reports), ("dispatched", 2), "the same agent, another attempt");
}

#[test]
fn a_run_without_agents_waits() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    rig.loses(AgentIndex(0));
    assert_eq!((rig.status("a"), crate::next_deadline(&rig.state)), ("ready", None));
    assert_eq!(recover(&rig.state), []);
    rig.join("two 1");
    assert_eq!(rig.out(), ["a"]);
}

#[test]
fn a_closed_fleet_is_gone_when_its_owner_is() {
    let options = RunOptions { closed_fleet: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a gpu=1; b<-a once; c<-a gpu=1", &["one 2 gpu=1", "two 2"], options);
    rig.completes("a");
    rig.pause("run");
    rig.starts("b");
    rig.loses(AgentIndex(1));
    rig.join("two 2 incarnation=2");
    rig.resume("run");
    let before = rig.log.len();
    rig.give(Command::TakeOver { epoch: 1 });
    let dispatched =
        rig.log[before..].iter().any(|(_, event)| matches!(event, cairn_model::Event::TaskDispatched { .. }));
    assert!(
        !dispatched && rig.state.agents().iter().all(|agent| agent.lost),
        "nothing is offered to the dead"
    );
    rig.join("one 2 gpu=1 incarnation=2");
    rig.complete_all();
    assert_eq!(rig.status("c"), "completed");
}
