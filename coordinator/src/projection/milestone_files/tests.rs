//! What the files say, where they are, and that a run does not depend on them.

use super::*;
use crate::insight::tests::{agent, command, submitted_state};
use cairn_model::{AgentIndex, Command, FailureKind, Outcome, Report, ReportKind, Timestamp};
use std::time::Duration;

const PLAN: &str = "
version: 1
project: apollo
milestones:
  - id: build
    title: 'Build: \"it\"'
    due: 2026-12-01T12:00:00Z
    tasks:
      - {id: a, exec: [x]}
      - {id: b, exec: [x], needs: [a]}
  - {id: ship, needs: [build], tasks: [{id: out, exec: [x]}]}
";

fn report(state: &mut State, second: i64, task: u32, kind: ReportKind) -> Vec<Event> {
    let report = Report { task: TaskIndex(task), attempt: 1, agent: AgentIndex(0), kind };
    command(state, second, Command::Reports(vec![report]))
}

fn finished(from: i64, to: i64, outcome: Outcome) -> ReportKind {
    let [started_at, finished_at] = [from, to].map(|second| Timestamp(second * 1_000_000));
    ReportKind::Finished { outcome, started_at, finished_at }
}

fn failed() -> Outcome {
    Outcome::Failed { kind: FailureKind::ExitCode, message: "it said \"no\"".into(), exit_code: Some(3) }
}

/// A run with one agent whose first task runs and is half done.
fn running() -> State {
    let mut state = submitted_state(PLAN);
    command(&mut state, 1, agent("local-1", 4, 4_000));
    report(&mut state, 2, 0, ReportKind::Started { at: Timestamp(1_500_000) });
    report(&mut state, 3, 0, ReportKind::Progress { permille: 500, message: None });
    state
}

fn update<'a>(state: &'a State, events: &'a [Event]) -> Update<'a> {
    let at = state.last_event_at();
    Update { state, events, at, position: 0, append_took: Duration::ZERO, stale_reports: 0 }
}

/// Shows the files what has happened, and that nothing more is on its way.
fn show(files: &mut MilestoneFiles, state: &State, events: &[Event]) {
    if !events.is_empty() {
        files.observe(&update(state, events));
    }
    files.observe(&update(state, &[]));
}

#[test]
fn a_file_tells_what_a_milestone_does() {
    let mut state = running();
    let build = MilestoneIndex(0);
    assert_eq!(
        render(&state, build),
        "schema: 1\nrun: apollo.1\nmilestone: \"build\"\ntitle: \"Build: \\\"it\\\"\"\n\
         due: 2026-12-01T12:00:00.000000Z\nstatus: active\nprogress: 0.250\n\
         started_at: 1970-01-01T00:00:00.000000Z\ntasks_total: 2\n\
         counts: {open: 2, completed: 0, failed: 0, skipped: 0, cancelled: 0}\ntasks:\n  \
         - {id: \"a\", status: in_progress, attempt: 1, started_at: 1970-01-01T00:00:01.500000Z, progress: 0.5}\n  \
         - {id: \"b\", status: pending}\n"
    );
    report(&mut state, 5, 0, finished(2, 5, failed()));
    assert_eq!(
        render(&state, build).split_once("status:").map(|(_, rest)| rest),
        Some(
            " failed\nprogress: 0.000\nstarted_at: 1970-01-01T00:00:00.000000Z\n\
             finished_at: 1970-01-01T00:00:05.000000Z\ntasks_total: 2\n\
             counts: {open: 0, completed: 0, failed: 1, skipped: 1, cancelled: 0}\ntasks:\n  \
             - {id: \"a\", status: failed, attempt: 1, started_at: 1970-01-01T00:00:01.500000Z, \
             duration_seconds: 3.5, error: {kind: exit_code, message: \"it said \\\"no\\\"\"}}\n  \
             - {id: \"b\", status: skipped, because_of: \"build/a\"}\n"
        )
    );
}

#[test]
fn files_move_to_completed_at_the_end_of_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    // What an earlier run of that name left makes room.
    let completed = directory.path().join("completed/apollo.1");
    fs::create_dir_all(&completed).expect("made");
    fs::write(completed.join("old.yaml"), "").expect("written");
    let mut state = running();
    let mut files = MilestoneFiles::new(directory.path(), "apollo.1", &state);
    show(&mut files, &state, &[]);
    let mut events = report(&mut state, 5, 0, finished(2, 5, failed()));
    assert!(state.run().status.is_final());
    events.push(Event::RunFailed);
    show(&mut files, &state, &events);
    // After the end nothing is written any more.
    show(&mut files, &state, &[]);
    drop(files);
    assert!(!directory.path().join("active/apollo.1").exists());
    let read = |name: &str| fs::read_to_string(completed.join(name)).expect("a file");
    let mut names: Vec<_> = fs::read_dir(&completed)
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["build.yaml", "ship.yaml"], "no draft, nothing old");
    assert_eq!(read("build.yaml"), render(&state, MilestoneIndex(0)));
    assert_eq!(read("ship.yaml"), render(&state, MilestoneIndex(1)));
}

#[test]
fn an_interruption_stands_in_every_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut state = running();
    let mut files = MilestoneFiles::new(directory.path(), "apollo.1", &state);
    show(&mut files, &state, &[]);
    let events = command(&mut state, 4, Command::Interrupt { reason: "SIGINT received".into() });
    show(&mut files, &state, &events);
    drop(files);
    for name in ["build", "ship"] {
        let path = directory.path().join(format!("active/apollo.1/{name}.yaml"));
        let text = fs::read_to_string(path).expect("a file");
        assert!(text.contains("\nrun_status: paused\n"), "{text}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_stops_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    // Not even root can make a directory inside a file.
    fs::write(directory.path().join("active"), "in the way").expect("written");
    let mut state = running();
    let mut files = MilestoneFiles::new(directory.path(), "apollo.1", &state);
    show(&mut files, &state, &[]);
    let events = report(&mut state, 5, 0, finished(2, 5, failed()));
    show(&mut files, &state, &events);
    drop(files);
    assert!(directory.path().join("active").is_file());
}

#[test]
fn milestones_that_change_all_the_time_keep_nobody_waiting() {
    let milestones: String = (0..MAX_FILES_A_REFRESH + 2)
        .map(|at| format!("  - {{id: m{at}, tasks: [{{id: t, exec: [x]}}]}}\n"))
        .collect();
    let state = submitted_state(&format!("version: 1\nproject: apollo\nmilestones:\n{milestones}"));
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = MilestoneFiles::new(directory.path(), "apollo.1", &state);
    show(&mut files, &state, &[]);
    let last = directory.path().join(format!("active/apollo.1/m{}.yaml", MAX_FILES_A_REFRESH + 1));
    files.dirty[..MAX_FILES_A_REFRESH].fill(true);
    show(&mut files, &state, &[]);
    drop(files);
    assert!(last.exists(), "the second refresh goes on where the first one ended");
}
