//! Ctrl-C once and twice, two writers at once, left-over processes.

use super::support::{Place, binary, told, wait_for};
use std::process::{Child, Command, Stdio};

/// Whether a process runs. One that has ended and that its parent has not asked about yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn signal(child: &Child, name: &str) {
    let sent =
        Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// A plan whose first task tells that it runs, and then sleeps.
fn long_plan(place: &Place) {
    place.write(
        "plan.yaml",
        "version: 1\nproject: long\ntasks:\n  - {id: first, run: 'echo 1 >> began.txt; test -f go || sleep 600'}\n  \
         - {id: second, needs: [first], run: 'echo 2 >> began.txt'}\n",
    );
}

fn start(place: &Place) -> Child {
    let child =
        place.command(["run", "plan.yaml", "--resume"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    wait_for("the first task to start", || place.read("began.txt").contains('1').then_some(()));
    child
}

#[test]
fn ctrl_c_stops_and_says_how_to_go_on() {
    let place = Place::new();
    long_plan(&place);
    let child = start(&place);
    signal(&child, "INT");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    assert!(told(&output).contains("cairn run plan.yaml --resume"), "{}", told(&output));
    place.write("go", "");
    let resumed = place.run(["run", "plan.yaml", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", told(&resumed));
    assert_eq!(place.read("began.txt"), "1\n1\n2\n");
}

#[test]
fn the_command_that_is_told_continues_the_run() {
    let place = Place::new();
    place.write(
        "my plan.yaml",
        "version: 1\nproject: long\nparameters: {who: {default: nobody}}\ntasks:\n  \
         - {id: first, env: {WHO: '${{ params.who }}'}, run: 'echo $WHO >> began.txt; test -f go || sleep 600'}\n",
    );
    let args = ["run", "my plan.yaml", "--state", "my state", "--param", "who=it's me"];
    let child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("the task to start", || place.read("began.txt").contains("me").then_some(()));
    signal(&child, "INT");
    let output = child.wait_with_output().expect("it ends");
    let told = told(&output);
    let command =
        told.lines().find_map(|line| line.strip_prefix("continue it with: cairn ")).expect("a command");
    place.write("go", "");
    let line = format!("{} {command}", binary().display());
    let resumed = Command::new("sh").args(["-c", &line]).current_dir(place.path()).output().expect("sh");
    assert_eq!(resumed.status.code(), Some(0), "{line}: {}", super::support::told(&resumed));
    assert_eq!(place.read("began.txt"), "it's me\nit's me\n");
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let place = Place::new();
    long_plan(&place);
    let line = format!("trap '' HUP; exec {} run plan.yaml", binary().display());
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(place.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("sh");
    wait_for("the first task to start", || place.read("began.txt").contains('1').then_some(()));
    signal(&child, "HUP");
    signal(&child, "TERM");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    assert!(told(&output).contains("SIGTERM received"), "{}", told(&output));
}

#[test]
fn ctrl_c_twice_kills_what_does_not_listen() {
    let place = Place::new();
    place.write(
        "plan.yaml",
        "version: 1\nproject: deaf\ntasks:\n  - {id: deaf, run: 'trap \"\" TERM; echo $$ > began.txt; while :; do sleep 1; done'}\n",
    );
    let child = place
        .command(["run", "plan.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pid = wait_for("the task to start", || place.read("began.txt").trim().parse::<u32>().ok());
    let began = super::support::now();
    signal(&child, "INT");
    // The first signal has been heard once it is said.
    wait_for("the interruption to be recorded", || {
        let events = place.run(["events"]);
        told(&events).contains("RunInterrupted").then_some(())
    });
    signal(&child, "INT");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    assert!(
        began.elapsed() < std::time::Duration::from_secs(4),
        "the grace of the first signal is not waited for"
    );
    assert!(!runs(pid), "the task is gone");
}

#[test]
fn a_second_writer_is_told_who_holds_the_state() {
    let place = Place::new();
    long_plan(&place);
    let child = start(&place);
    let second = place.run(["run", "plan.yaml"]);
    assert_eq!(second.status.code(), Some(5), "{}", told(&second));
    assert!(told(&second).contains(&format!("process {}", child.id())), "{}", told(&second));
    // Whoever only looks is not stopped by the lock.
    assert!(place.ok(["status", "long"]).contains("long.1"));
    signal(&child, "TERM");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
}

#[test]
fn processes_of_a_killed_run_are_ended_before_their_retry() {
    let place = Place::new();
    place.write(
        "plan.yaml",
        "version: 1\nproject: left\ntasks:\n  - {id: task, run: 'echo $$ >> began.txt; test -f go || sleep 600'}\n",
    );
    let mut child = place
        .command(["run", "plan.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = wait_for("the task to start", || place.read("began.txt").trim().parse::<u32>().ok());
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    assert!(runs(pid), "the task outlives its runner");
    place.write("go", "");
    let resumed = place.run(["run", "plan.yaml", "--resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", told(&resumed));
    assert!(!runs(pid), "the left-over process is gone");
    assert_eq!(place.read("began.txt").lines().count(), 2);
}
