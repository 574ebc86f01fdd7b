//! An agent of a fleet with real processes (keeper, child, tasks): whatever dies or sleeps when, no attempt runs twice,
//! and each end is told. Nothing here waits for a fixed time, but for leases, which are time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broker;
mod rig;

use broker::Settled;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::*;
use cairn_shared::transport::Address;
use rig::{AGENT, Rig};
use rustix::process::{Signal, kill_process};
use std::process::Command;
use std::time::Duration;

const ACCEPTED: WireReportKind = WireReportKind::Accepted { awaits_grant: false };
const AWAITS: WireReportKind = WireReportKind::Accepted { awaits_grant: true };

fn is_lost(ends: &[WireOutcome]) -> bool {
    matches!(ends, [WireOutcome::Lost { .. }])
}

#[test]
fn an_offer_runs_its_output_comes_and_a_drained_agent_says_goodbye() {
    let mut rig = Rig::new();
    let offer = rig.script(0, "echo hello; echo \"secret: $CAIRN_TEST_SECRET\"; pwd");
    let tag = rig.offer(offer);
    assert_eq!(rig.end_of(0), [WireOutcome::Completed]);
    assert!(rig.is_told(0, &ACCEPTED));
    rig.until("the receipt", |rig| rig.settled.contains(&(tag, Settled::Acknowledged)));
    rig.until("the output", |rig| rig.outputs.iter().any(|output| output.is_last));
    let bytes: Vec<u8> = rig.outputs.iter().flat_map(|output| output.bytes.clone()).collect();
    let workspace = rig.path("workspace").canonicalize().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("hello\nsecret: \n{}\n", workspace.display()));
    rig.until("the log to go", |rig| !rig.path(AGENT).join("logs/apollo.1/build/t0.1.log").exists());
    let garbage = rig.broker.deliver(&Address::Agent(AGENT.into()), ("application/json", b"{"), false);
    rig.until("the refusal", |rig| rig.settled.contains(&(garbage, Settled::Rejected)));
    rig.signal(Signal::TERM);
    assert_eq!((rig.exit().code(), rig.goodbyes), (Some(0), 1));
    assert_eq!((rig.traces(), rig.ends(0).len()), (vec!["t0.1".to_owned()], 1));
}

#[test]
fn a_killed_child_costs_no_running_task() {
    let mut rig = Rig::new();
    let go = rig.path("go");
    let offer = rig.script(0, &format!("while ! [ -e {} ]; do sleep 0.01; done", go.display()));
    rig.offer(offer);
    rig.until("the start", |rig| !rig.traces().is_empty());
    for _ in 0..2 {
        let (hellos, from) = (rig.hellos, rig.now());
        kill_process(rig.child_pid(), Signal::KILL).unwrap();
        rig.until("a new hello", |rig| rig.hellos > hellos);
        assert!(
            rig.now().since(from) < Duration::from_secs(5),
            "a busy machine may take more than the second"
        );
        let heartbeats = rig.heartbeats.len();
        rig.until("a heartbeat", |rig| rig.heartbeats.len() > heartbeats);
        let held = &rig.heartbeats.last().unwrap().holds;
        assert_eq!(held[0].attempts, [Attempt { task: 0, attempt: 1 }], "it is still there");
    }
    std::fs::write(go, "").unwrap();
    assert_eq!(rig.end_of(0), [WireOutcome::Completed]);
    assert_eq!(rig.traces(), ["t0.1"]);
}

#[test]
fn an_attempt_keeps_the_trace_that_it_was_offered_with() {
    let mut rig = Rig::new();
    let run = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    rig.broker.trace = Some(run.to_owned());
    let (told, go) = (rig.path("told"), rig.path("go"));
    let script = format!("while ! [ -e {} ]; do sleep 0.01; done", go.display());
    let offer = rig.script(0, &format!("echo $TRACEPARENT >> {}; {script}", told.display()));
    rig.offer(offer);
    rig.until("the start", |rig| {
        std::fs::read_to_string(rig.path("told")).is_ok_and(|told| told.len() == 56)
    });
    // Whoever carries its reports from here on was never told.
    let hellos = rig.hellos;
    kill_process(rig.child_pid(), Signal::KILL).unwrap();
    rig.until("a new hello", |rig| rig.hellos > hellos);
    rig.acknowledges = false;
    std::fs::write(go, "").unwrap();
    assert_eq!(rig.end_of(0), [WireOutcome::Completed]);
    assert_eq!(
        rig.reported_with.iter().flatten().filter(|&trace| trace == run).count(),
        rig.reported_with.len()
    );
    let attempt = TraceContext::parse(run).unwrap().of_attempt(0, 1);
    assert_eq!(std::fs::read_to_string(told).unwrap(), format!("{attempt}\n"));
    // What is no trace is no reason to refuse work.
    rig.broker.trace = Some("not a trace".to_owned());
    let offer = rig.script(1, "");
    rig.offer(offer);
    assert_eq!(rig.end_of(1), [WireOutcome::Completed]);
}

#[test]
fn a_killed_keeper_loses_what_ran_and_nothing_else() {
    let mut rig = Rig::new();
    rig.acknowledges = false;
    let done = rig.script(0, "exit 7");
    rig.offer(done);
    assert_eq!(rig.end_of(0).len(), 1);
    for task in [1, 2] {
        let offer = rig.script(task, "setsid sleep 1000 & sleep 1000");
        rig.offer(offer);
    }
    rig.until("two that run", |rig| rig.traces().len() == 3);
    let queued = rig.script(3, "");
    rig.offer(queued);
    let awaiting = Offer { needs_grant: true, ..rig.script(4, "") };
    rig.offer(awaiting);
    rig.until("all to be taken", |rig| rig.is_told(3, &ACCEPTED) && rig.is_told(4, &AWAITS));
    let (incarnation, child) = (rig.incarnation, rig.child_pid());
    rig.kill_keeper();
    rig.until("the child to end what is left, and itself", |rig| {
        rig.processes() == 0 && rustix::process::test_kill_process(child).is_err()
    });
    rig.reports.clear();
    rig.heartbeats.clear();
    rig.start_keeper();
    for task in [1, 2] {
        assert!(is_lost(&rig.end_of(task)), "{task}");
    }
    assert!(matches!(&rig.end_of(0)[..], [WireOutcome::Failed { exit_code: Some(7), .. }]), "told again");
    rig.until("an answer to it", |rig| !rig.heartbeats.is_empty());
    for task in [3, 4] {
        rig.until("it to ask whether it may still start", |rig| rig.is_told(task, &AWAITS));
        rig.order(vec![WireOrder::Grant(Attempt { task, attempt: 1 })]);
        assert_eq!(rig.end_of(task), [WireOutcome::Completed]);
    }
    assert_eq!(rig.incarnation, incarnation);
    assert_eq!(rig.traces(), ["t0.1", "t1.1", "t2.1", "t3.1", "t4.1"], "nothing ran twice");
}

#[test]
fn a_frozen_keeper_ends_what_runs_when_it_wakes_after_the_lease() {
    let mut rig = Rig::with_lease(Duration::from_millis(1500));
    let offer = rig.script(0, "trap '' TERM; while :; do sleep 0.05; done");
    rig.offer(offer);
    rig.until("the start", |rig| !rig.traces().is_empty());
    rig.signal(Signal::STOP);
    let until = rig.now().plus(Duration::from_millis(2000));
    rig.until("the lease to be over", |rig| rig.now() >= until);
    assert!(rig.processes() > 0, "nobody is awake to end it");
    let woken = rig.now();
    rig.signal(Signal::CONT);
    rig.until("the processes to end", |rig| rig.processes() == 0);
    assert!(rig.now().since(woken) < Duration::from_millis(1900), "killed at once, without the grace of 2 s");
    assert!(is_lost(&rig.end_of(0)));
}

#[test]
fn without_answers_all_ends_within_the_lease_but_what_may_go_on() {
    let mut rig = Rig::with_lease(Duration::from_secs(2));
    let go = rig.path("go");
    let offer = rig.script(0, "sleep 1000");
    rig.offer(offer);
    let held = rig.script(1, &format!("while ! [ -e {} ]; do sleep 0.01; done", go.display()));
    rig.offer(Offer { hold: true, ..held });
    rig.until("both starts", |rig| rig.traces().len() == 2);
    let queued = rig.script(2, "");
    rig.offer(queued);
    rig.until("the third to wait", |rig| rig.is_told(2, &ACCEPTED));
    let answered = rig.now();
    rig.answers = false;
    assert!(is_lost(&rig.end_of(0)));
    let took = rig.now().since(answered);
    assert!(took > Duration::from_millis(1200) && took < Duration::from_millis(2000), "{took:?}");
    assert_eq!(rig.end_of(2), [WireOutcome::NotStarted]);
    rig.answers = true;
    std::fs::write(go, "").unwrap();
    assert_eq!(rig.end_of(1), [WireOutcome::Completed]);
    assert_eq!(rig.traces(), ["t0.1", "t1.1"]);
}

#[test]
fn a_frozen_child_is_replaced_before_the_lease_ends() {
    let mut rig = Rig::with_lease(Duration::from_secs(4));
    let go = rig.path("go");
    let offer = rig.script(0, &format!("while ! [ -e {} ]; do sleep 0.01; done", go.display()));
    rig.offer(offer);
    rig.until("the start", |rig| !rig.traces().is_empty());
    let hellos = rig.hellos;
    kill_process(rig.child_pid(), Signal::STOP).unwrap();
    rig.until("another child", |rig| rig.hellos > hellos);
    std::fs::write(go, "").unwrap();
    assert_eq!(rig.end_of(0), [WireOutcome::Completed]);
}

#[test]
fn what_may_have_been_given_to_others_waits_for_a_grant_and_what_comes_twice_runs_once() {
    let mut rig = Rig::new();
    // Whether it was handed out before says nothing: the coordinator may have sent it twice.
    let offers = [(rig.script(0, ""), false), (rig.script(1, ""), true)];
    for (offer, redelivered) in offers.clone() {
        let task = offer.task;
        let tag = rig.share(offer, redelivered);
        rig.until("it to ask", |rig| rig.is_told(task, &AWAITS));
        rig.until("the receipt", |rig| rig.settled.contains(&(tag, Settled::Acknowledged)));
        rig.order(vec![WireOrder::Grant(Attempt { task, attempt: 1 })]);
        assert_eq!(rig.end_of(task), [WireOutcome::Completed]);
    }
    for (offer, _) in offers {
        let tag = rig.share(offer, true);
        rig.until("the receipt", |rig| rig.settled.contains(&(tag, Settled::Acknowledged)));
    }
    let unfit = Offer { resources: vec![("gpu".into(), 1000)], ..rig.script(2, "") };
    rig.offer(unfit);
    let no = WireReportKind::Declined { reason: "this agent has no `gpu`".into() };
    rig.until("the refusal", |rig| rig.is_told(2, &no));
    assert_eq!(rig.traces(), ["t0.1", "t1.1"]);
    assert_eq!((rig.ends(0).len(), rig.ends(1).len()), (1, 1));
}

#[test]
fn a_draining_agent_gives_back_what_waits_and_a_second_signal_ends_what_runs() {
    let mut rig = Rig::new();
    for task in 0..3 {
        let offer = rig.script(task, "sleep 1000");
        rig.offer(offer);
    }
    rig.until("two that run and one that waits", |rig| rig.traces().len() == 2 && rig.is_told(2, &ACCEPTED));
    rig.signal(Signal::TERM);
    assert_eq!(rig.end_of(2), [WireOutcome::NotStarted]);
    let late = rig.script(3, "");
    rig.offer(late);
    let no = WireReportKind::Declined { reason: "the agent takes no new work".into() };
    rig.until("the refusal", |rig| rig.is_told(3, &no));
    rig.until("a beat that says so", |rig| rig.heartbeats.last().is_some_and(|beat| beat.draining));
    rig.signal(Signal::TERM);
    assert_eq!(
        [rig.end_of(0), rig.end_of(1)],
        [[WireOutcome::Stopped], [WireOutcome::Stopped]],
        "as planned"
    );
    assert_eq!((rig.exit().code(), rig.goodbyes, rig.processes()), (Some(3), 1, 0));
}

#[test]
fn a_second_keeper_of_the_same_directory_is_refused() {
    let rig = Rig::new();
    let mut second = Command::new(std::env::current_exe().unwrap());
    second.args(["--exact", "rig::role", "--nocapture"]).env("CAIRN_TEST_AGENT_IN", rig.directory.path());
    let output = second.stdin(std::process::Stdio::null()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("is in use: held by `test agent`, process"), "{told}");
}
