//! What other runs leave of the fleet.

use super::rig::Rig;
use crate::{Loan, Taken, has_work, next_deadline};
use cairn_model::{AgentIndex, Command};

fn taken(slots: u32, gpus: u64, closed: bool) -> Taken {
    Taken { slots, timers: 0, resources: vec![("gpu".into(), gpus * 1000)], closed }
}

fn lend(rig: &mut Rig, agents: Vec<Taken>, most_slots: Option<u32>) {
    rig.state.lend(Loan { agents, most_slots });
    rig.give(Command::Tick);
}

#[test]
fn a_run_takes_what_others_leave() {
    let mut rig = Rig::new("m: a; b; c gpu=2; d wait=3", &[]);
    lend(&mut rig, vec![taken(1, 2, false), taken(0, 0, true)], None);
    rig.join("one 2 gpu=3");
    rig.join("two 9");
    assert_eq!(rig.statuses(), ["a dispatched", "b ready", "c ready", "d dispatched"]);
    assert!(rig.state.is_hungry() && !has_work(&rig.state) && next_deadline(&rig.state).is_none());
    lend(&mut rig, vec![taken(0, 2, false), taken(0, 0, true)], None);
    assert_eq!(rig.statuses(), ["a dispatched", "b dispatched", "c ready", "d dispatched"]);
    let usage: Vec<_> = rig.state.usage().map(|(index, agent)| (index.0, agent.slots_used)).collect();
    assert_eq!((usage, rig.state.slots_out()), (vec![(0, 2), (1, 0)], 2));
    rig.completes("a");
    lend(&mut rig, vec![taken(0, 1, false)], None);
    assert_eq!(rig.status("c"), "dispatched");
    assert_eq!(rig.state.agents()[0].resources_used().collect::<Vec<_>>(), [("gpu", 2000)]);
    assert!(!rig.state.is_hungry());
}

#[test]
fn a_run_has_no_more_out_than_its_share() {
    let mut rig = Rig::new("m: a; b; c; d wait=3; e; f", &[]);
    lend(&mut rig, Vec::new(), Some(2));
    rig.join("one 1 backlog=9");
    rig.join("two 3 backlog=9");
    assert_eq!((rig.out().len(), rig.status("d")), (3, "dispatched"), "a timer takes no slot");
    assert!(rig.state.is_hungry());
    lend(&mut rig, Vec::new(), Some(9));
    assert_eq!(rig.out().len(), 5, "no agent is given more than its slots while others wait");
    lend(&mut rig, Vec::new(), None);
    rig.loses(AgentIndex(1));
    rig.complete_all();
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn what_is_lent_is_no_part_of_the_run() {
    let mut rig = Rig::new("m: a", &["one 1"]);
    let before = rig.state.clone();
    rig.state.lend(Loan { agents: vec![taken(7, 7, true)], most_slots: Some(0) });
    assert!(rig.state == before);
    rig.completes("a");
    assert_eq!(rig.run_status(), "completed");
    let mut rig = Rig::new("m: a gpu=1", &["one 1"]);
    assert!(!rig.state.is_hungry(), "nobody could ever run it: no room would help");
    rig.join("two 1 gpu=1");
    assert!(!rig.state.is_hungry());
}
