//! Agents that are not what they seem: frozen beyond their lease, or two under one name.

use super::support::{Fleet, LONG, Setup, check_executions, kill, lines};
use crate::e2e::support::{check_log, wait_for};

const LEASE: [(&str, &str); 1] = [("CAIRN_LEASE", "2s")];

#[test]
fn a_frozen_agent_loses_its_tasks_and_wakes_to_no_effect() {
    let fleet = Fleet::shared(Setup { coordinator: &LEASE, ..Setup::default() });
    let body = "test $CAIRN_AGENT = a2 || { echo >> slow.txt; sleep 600; }; echo $CAIRN_TASK.$CAIRN_ATTEMPT >> done.txt";
    let mut plan = "version: 1\nproject: ice\ntasks:\n".to_owned();
    for task in 0..8 {
        plan += &format!("- {{id: t{task}, run: '{body}'}}\n");
    }
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    wait_for("two tasks that run", || (lines(&fleet.place.path().join("slow.txt")).len() == 2).then_some(()));
    let frozen = &fleet.agents[0];
    let child = frozen.network_child().expect("its child");
    let tasks: Vec<_> = frozen.children().into_iter().filter(|pid| *pid != child).collect();
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    for pid in [frozen.pid(), child] {
        kill(pid, "STOP");
    }
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{status}\n{}", fleet.logs());
    let events = fleet.events(&run);
    check_log(&events, &[], 8);
    check_executions(&fleet, &events, 8);
    let lost = events.iter().filter(|event| event["event_type"] == "AgentLost").count();
    assert_eq!(lost, 1, "the frozen agent, once");
    let stolen = |event: &&serde_json::Value| {
        event["event_type"] == "TaskCompleted" && event["event_data"]["attempt"] == 1
    };
    let first_try = events.iter().filter(stolen).count();
    assert!(first_try < 8, "what it had ran elsewhere under a new number");
    let executed = fleet.place.read("done.txt");
    for pid in [frozen.pid(), child] {
        kill(pid, "CONT");
    }
    wait_for("the end of its processes", || {
        let is_alive = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}/exe")).exists();
        (!tasks.iter().any(is_alive)).then_some(())
    });
    fleet.wait_for_agents(2);
    frozen.says("the lease has ended");
    assert_eq!(fleet.place.read("done.txt"), executed, "what it had was ended, not finished");
    assert_eq!(fleet.events(&run).len(), events.len(), "what it said late changed nothing");
}

#[test]
fn a_second_agent_of_the_same_name_is_refused() {
    let fleet = Fleet::shared(Setup { agents: 1, ..Setup::default() });
    // On the same directory: its lock says who is there.
    let second = fleet.start_agent(1);
    assert_eq!(second.wait(), Some(5), "{}", second.log());
    assert!(second.log().contains("each agent has a directory of its own"), "{}", second.log());
    assert!(!second.log().contains(fleet.password()), "it does not tell what others may not know");
    // With a directory of its own, as from another machine: only one can listen on the agent's queue.
    let third = fleet.start_agent_in(1, "elsewhere");
    third.says("is already connected");
    fleet.place.write("plan.yaml", "version: 1\nproject: two\ntasks:\n- {id: a, run: exit 0}\n");
    let run = fleet.submit("plan.yaml");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let joined = |event: &&serde_json::Value| event["event_type"] == "AgentJoined";
    assert_eq!(
        fleet.events(&run).iter().filter(joined).count(),
        1,
        "the first one works on as if nothing were"
    );
}
