//! What may run, and how a run and its milestones end.

use super::rig::Rig;
use crate::Effect;
use cairn_model::{Command, Event, RunOptions};

#[test]
fn a_task_runs_when_all_it_needs_is_completed() {
    let mut rig = Rig::new("m: a; b<-a; c<-a; d<-b,c", &["one 9"]);
    assert_eq!(rig.out(), ["a"]);
    rig.completes("a");
    assert_eq!(rig.out(), ["b", "c"]);
    rig.completes("c");
    assert_eq!(rig.status("d"), "pending");
    rig.completes("b");
    assert_eq!(rig.out(), ["d"]);
    let events = rig.completes("d");
    assert_eq!(events.last(), Some(&Event::RunCompleted { warnings: 0 }));
    assert_eq!(rig.effects(&events).last(), Some(&Effect::Ended));
    assert_eq!((rig.run_status(), rig.milestone_status("m")), ("completed", "completed"));
}

#[test]
fn a_need_written_twice_is_one_need() {
    let mut rig = Rig::new("m: a; b<-a,a", &["one 9"]);
    rig.completes("a");
    assert_eq!(rig.out(), ["b"]);
}

#[test]
fn a_milestone_starts_when_the_milestones_it_needs_are_completed() {
    let mut rig = Rig::new("a: x; y | b: z | c<-a,b/z: v; w<-v", &["one 9"]);
    assert_eq!(rig.out(), ["x", "y", "z"]);
    rig.completes("a/x");
    rig.completes("b/z");
    assert_eq!((rig.milestone_status("b"), rig.milestone_status("c")), ("completed", "planned"));
    rig.completes("a/y");
    assert_eq!((rig.milestone_status("a"), rig.milestone_status("c")), ("completed", "active"));
    assert_eq!(rig.out(), ["v"]);
}

#[test]
fn a_task_waits_for_its_milestone_and_for_a_task_of_another() {
    let mut rig = Rig::new("a: x; y | b<-a/x: z<-a/y", &["one 9"]);
    rig.completes("a/y");
    assert_eq!(rig.status("b/z"), "pending");
    rig.completes("a/x");
    assert_eq!(rig.out(), ["z"]);
}

#[test]
fn chains_of_checkpoints_complete_in_one_go() {
    let mut rig = Rig::new("m: a checkpoint; b<-a checkpoint; c<-b checkpoint; d<-c; e<-d checkpoint", &[]);
    assert_eq!(rig.statuses(), ["a completed", "b completed", "c completed", "d ready", "e pending"]);
    rig.join("one 1");
    rig.completes("d");
    assert_eq!((rig.status("e"), rig.run_status()), ("completed", "completed"));
}

#[test]
fn empty_plans_and_empty_milestones_complete_at_once() {
    assert_eq!(Rig::new("", &[]).run_status(), "completed");
    let mut rig = Rig::new("a: | b<-a: | c: x | d<-c: | e<-d,b: y", &["one 1"]);
    assert_eq!((rig.milestone_status("b"), rig.milestone_status("d")), ("completed", "planned"));
    rig.completes("c/x");
    assert_eq!((rig.milestone_status("d"), rig.out()), ("completed", vec!["y".to_owned()]));
    rig.completes("e/y");
    assert_eq!(rig.run_status(), "completed");
}

#[test]
fn a_failure_skips_what_needs_it_with_the_cause_and_nothing_else() {
    let mut rig = Rig::new("m: a; b<-a; c<-b; d; e<-d", &["one 9"]);
    let cause = rig.task("a");
    let events = rig.fails("a");
    let skips: Vec<_> = [rig.task("b"), rig.task("c")].map(|task| Event::TaskSkipped { task, cause }).into();
    let told: Vec<_> =
        events.into_iter().filter(|event| matches!(event, Event::TaskSkipped { .. })).collect();
    assert_eq!(told, skips);
    assert_eq!(rig.state.task(rig.task("c")).skipped_because_of(), Some(cause));
    rig.completes("d");
    rig.completes("e");
    assert_eq!((rig.run_status(), rig.milestone_status("m")), ("failed", "failed"));
}

#[test]
fn a_failure_skips_whole_milestones_and_spares_the_others() {
    let mut rig = Rig::new("a: x; y | b<-a: v; w<-v | c<-b: | d<-c: u | e: z", &["one 9"]);
    rig.fails("a/x");
    assert_eq!((rig.status("b/v"), rig.status("b/w"), rig.status("d/u")), ("skipped", "skipped", "skipped"));
    assert_eq!((rig.status("a/y"), rig.status("e/z")), ("dispatched", "dispatched"));
    let milestones = ["a", "b", "c", "d", "e"].map(|id| rig.milestone_status(id));
    assert_eq!(milestones, ["active", "skipped", "skipped", "skipped", "active"]);
    rig.complete_all();
    let milestones = ["a", "e"].map(|id| rig.milestone_status(id));
    assert_eq!((milestones, rig.run_status()), (["failed", "completed"], "failed"));
}

#[test]
fn a_milestone_whose_tasks_all_ended_before_its_start_ends_once() {
    // Both tasks of b are skipped because of tasks that b itself does not need; then what b needs completes.
    let mut rig = Rig::new("a: x; y; z | b<-a/z: v<-a/x; w<-a/y | c: u", &["one 9"]);
    rig.fails("a/x");
    rig.fails("a/y");
    assert_eq!(rig.milestone_status("b"), "skipped");
    rig.completes("a/z");
    assert_eq!((rig.milestone_status("b"), rig.run_status()), ("skipped", "active"));
    rig.completes("c/u");
    assert_eq!(rig.run_status(), "failed");

    let mut rig = Rig::new("a: x | b<-a: v", &["one 9"]);
    rig.cancel("b");
    assert_eq!(rig.milestone_status("b"), "cancelled");
    rig.fails("a/x");
    assert_eq!((rig.milestone_status("b"), rig.run_status()), ("cancelled", "failed"));
}

#[test]
fn an_allowed_failure_is_a_warning() {
    let mut rig = Rig::new("a: x allow; y<-x | b<-a: z", &["one 9"]);
    rig.fails("a/x");
    assert_eq!((rig.status("a/x"), rig.out()), ("failed", vec!["y".to_owned()]));
    rig.completes("a/y");
    assert_eq!(rig.milestone_status("a"), "completed");
    let events = rig.completes("b/z");
    assert_eq!(events.last(), Some(&Event::RunCompleted { warnings: 1 }));
}

#[test]
fn fail_fast_ends_the_run_at_the_first_failure() {
    let options = RunOptions { fail_fast: true, ..RunOptions::default() };
    let mut rig = Rig::with("m: a; b; c<-b; d allow", &["one 9"], options);
    rig.fails("d");
    assert_eq!(rig.out(), ["b", "a"], "an allowed failure ends nothing");
    let events = rig.fails("a");
    let stop = Effect::Stop { task: rig.task("b"), attempt: 1, agent: cairn_model::AgentIndex(0) };
    assert_eq!(rig.effects(&events), [stop]);
    assert_eq!((rig.status("b"), rig.status("c")), ("dispatched", "cancelled"));
    rig.stopped("b");
    assert_eq!((rig.status("b"), rig.run_status()), ("cancelled", "failed"));
}

#[test]
fn skips_of_a_large_plan_are_spread_over_several_decisions() {
    let tasks: Vec<_> =
        (1..20_000).map(|at| format!("t{at}<-{}", if at % 2 == 0 { "first" } else { "t0" })).collect();
    let mut rig = Rig::new(&format!("m: first; t0<-first; {}", tasks.join("; ")), &["one 1"]);
    let report = rig.report(
        "first",
        cairn_model::ReportKind::Finished {
            outcome: super::rig::failed(cairn_model::FailureKind::ExitCode),
            started_at: rig.now,
            finished_at: rig.now,
        },
    );
    let mut decisions = vec![rig.try_once(Command::Reports(vec![report])).expect("accepted").len()];
    while crate::has_work(&rig.state) {
        assert_eq!(crate::next_deadline(&rig.state), Some(rig.now), "it asks for the next decision");
        decisions.push(rig.try_once(Command::Tick).expect("accepted").len());
    }
    assert!(decisions.iter().all(|&events| events <= crate::MAX_EVENTS_PER_DECISION), "{decisions:?}");
    assert_eq!(decisions.len(), 5, "{decisions:?}");
    assert_eq!((rig.count(crate::TaskStatus::Skipped), rig.run_status()), (20_000, "failed"));
    assert_eq!(crate::next_deadline(&rig.state), None);
}
