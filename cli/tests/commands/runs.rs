//! The commands that look at runs, against state directories that the library made.

use crate::place::{Place, Run};
use cairn_model::{Command, Scope};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::Stdio;

const PLAN: &str = "\
version: 1
project: apollo
milestones:
  - id: build
    tasks:
      - {id: compile, run: make, resources: {cpus: 2}, estimate: 1m}
      - {id: unit, needs: [compile], run: make test, retry: {max_attempts: 2, initial: 9s, jitter: 0}}
      - {id: lint, run: lint, resources: {cpus: 1}}
  - id: ship
    needs: [build]
    due: 2026-01-01T00:00:30Z
    tasks:
      - {id: publish, run: ./publish.sh}
      - {id: announced, needs: [publish]}
";

/// `unit` waits for its second attempt, `lint` runs.
fn half_way(place: &Place) -> Run {
    let mut run = place.run(1, PLAN);
    run.agent(100, 2);
    run.started(150, "build/compile");
    run.log("build/compile", 1, "one\ntwo\n\u{1b}[31mthree");
    run.completed(150, 1_400, "build/compile");
    run.started(1_450, "build/unit");
    run.log("build/unit", 1, "testing\n");
    run.failed(1_450, 2_000, "build/unit", 2);
    run.started(2_010, "build/lint");
    run.progress(3_000, "build/lint", 400, "half\u{1b}[2J way");
    run
}

/// The second attempt fails too.
fn failed(place: &Place) {
    let mut run = half_way(place);
    run.completed(2_010, 4_000, "build/lint");
    run.wish(11_000, Command::Tick);
    run.failed(11_010, 12_000, "build/unit", 2);
}

#[test]
fn status_of_a_run_that_nobody_works_on() {
    let place = Place::new();
    drop(half_way(&place));
    let ran = place.cairn("status");
    assert_eq!(
        ran.out,
        "\
apollo.1 ● active  28 %  1 of 5 tasks, 1 in_progress
submitted 2026-01-01 00:00:00 UTC, for 3s so far
plan plan.yaml

  ● active   build  █████████░░░░░░░░░░░  46 %  1/3  3s
  ○ planned  ship   ░░░░░░░░░░░░░░░░░░░░   0 %  0/2      due 2026-01-01 00:00:30 UTC

  ● in_progress  build/lint      990ms  local-1  40 % half\\x1b[2J way
  ○ pending      build/unit                      next attempt in 8s: exit code 2
  ○ pending      ship/publish
  ○ pending      ship/announced
  ✔ completed    build/compile    1.3s  local-1
"
    );
    assert_eq!(
        ran.err,
        "note: no process works on apollo.1 now; continue it with: cairn run plan.yaml --resume\n"
    );
    assert_eq!(place.cairn("status --exit-status").code, 7);
    let ascii = place.command("status apollo").env("LC_ALL", "C").output().expect("it runs");
    assert!(ascii.stdout.is_ascii() && ascii.stdout.starts_with(b"apollo.1 * active"));
}

#[test]
fn status_as_json_keeps_the_contract() {
    let place = Place::new();
    failed(&place);
    let status = place.cairn("status apollo.1 --output json").json();
    let keys: Vec<_> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "cancelling",
            "counts",
            "critical_path",
            "finished_at",
            "forecast",
            "milestones",
            "pattern",
            "progress",
            "project",
            "run",
            "scale",
            "schema",
            "started_at",
            "status",
            "storage",
            "submitted_at",
            "tasks"
        ]
    );
    assert_eq!(
        status["tasks"][1],
        json!({"id": "build/unit", "status": "failed", "attempt": 2, "agent": "local-1", "exit_code": 2,
               "progress": 0.0, "started_at": "2026-01-01T00:00:11.010000Z",
               "finished_at": "2026-01-01T00:00:12.000000Z", "duration_seconds": 0.99,
               "error": {"kind": "exit_code", "message": "exit code 2"}})
    );
    assert_eq!(
        status["milestones"][1],
        json!({"id": "ship", "status": "skipped", "progress": 0.0, "due": "2026-01-01T00:00:30.000000Z",
               "tasks_total": 2, "tasks_completed": 0})
    );
    assert_eq!(
        status["counts"],
        json!({"pending": 0, "ready": 0, "dispatched": 0, "in_progress": 0, "completed": 2, "failed": 1,
               "skipped": 2, "cancelled": 0})
    );
    assert_eq!(
        (&status["status"], &status["forecast"], &status["scale"]),
        (&json!("failed"), &Value::Null, &Value::Null)
    );
    let ran = place.cairn("status --exit-status");
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
}

#[test]
fn what_is_not_there_is_said_so() {
    let place = Place::new();
    let ran = place.cairn("status");
    assert_eq!(ran.code, 3);
    assert!(ran.err.starts_with("error: there are no runs in .milestones\nhelp: "), "{}", ran.err);
    assert!(!place.state().exists(), "looking makes nothing");
    let ran = place.cairn("list --output json");
    assert_eq!((ran.code, ran.out.as_str()), (0, "[]\n"));
    failed(&place);
    for line in [
        "status apolo",
        "events apollo.2",
        "logs apollo build/unti",
        "explain apollo build/unti",
        "history apolo",
    ] {
        let ran = place.cairn(line);
        assert_eq!(ran.code, 3, "{line}");
        assert!(ran.err.contains("did you mean"), "{line}: {}", ran.err);
    }
    let ran = place.cairn("status apolo --output json");
    assert_eq!(
        serde_json::from_str::<Value>(&ran.out).expect("a value")["error"]["kind"],
        json!("not_found")
    );
}

#[test]
fn log_and_plans_are_all_that_is_needed() {
    let place = Place::new();
    failed(&place);
    let status = place.cairn("status apollo").good();
    for part in std::fs::read_dir(place.state()).expect("there").flatten() {
        match part.file_name().to_str().expect("text") {
            "events" | "plans" => {}
            "lock" => std::fs::remove_file(part.path()).expect("removed"),
            _ => std::fs::remove_dir_all(part.path()).expect("removed"),
        }
    }
    assert_eq!(place.cairn("status apollo").good(), status);
    std::fs::remove_dir_all(place.state().join("plans")).expect("removed");
    let ran = place.cairn("status apollo");
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(ran.err.contains("help: put the file back"), "{}", ran.err);
    assert!(!place.cairn("events apollo.1").good().is_empty(), "as the help says");
}

#[test]
fn runs_are_listed_and_summed_up() {
    let place = Place::new();
    failed(&place);
    let mut second = place.run(2, PLAN);
    second.wish(500, Command::Cancel { scope: Scope::Run, reason: "".into() });
    drop(second);
    let mut other = place.run(1, "{version: 1, project: hermes, tasks: [{id: a}, {id: b, needs: [a]}]}");
    other.wish(2_000, Command::Tick);
    drop(other);
    assert_eq!(
        place.cairn("list").good(),
        "\
RUN       STATUS       PROGRESS  TASKS  SUBMITTED                DURATION
apollo.1  ✖ failed         40 %    2/5  2026-01-01 00:00:00 UTC  12s
apollo.2  ■ cancelled       0 %    0/5  2026-01-01 00:00:00 UTC  500ms
hermes.1  ✔ completed     100 %    2/2  2026-01-01 00:00:00 UTC  0s
"
    );
    let names = |line: &str| -> Vec<String> {
        let runs = place.cairn(line).json();
        runs.as_array()
            .expect("a list")
            .iter()
            .map(|run| run["run"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names("list --project apollo --output json"), ["apollo.1", "apollo.2"]);
    assert_eq!(names("list --status completed --output json"), ["hermes.1"]);
    assert_eq!(place.cairn("list --output jsonl").good().lines().count(), 3);
    assert!(place.cairn("history apollo").good().ends_with("\napollo: 2 runs: 1 failed, 1 cancelled\n"));
    let history = place.cairn("history hermes --output json").json();
    assert_eq!((&history["completed"], &history["last_duration_seconds"]), (&json!(1), &json!(0.0)));
    let ran = place.cairn("status");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("the projects are apollo, hermes"), "{}", ran.err);
}

#[test]
fn events_come_one_a_line_as_they_are_stored() {
    let place = Place::new();
    failed(&place);
    let text = place.cairn("events apollo").good();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a value")).collect();
    let positions: Vec<_> =
        events.iter().map(|event| event["position"].as_u64().expect("a number")).collect();
    assert!(positions.iter().copied().eq(1..=events.len() as u64), "{positions:?}");
    assert_eq!(events[0]["event_type"], json!("RunSubmitted"));
    assert_eq!(events.last().expect("some")["event_type"], json!("RunFailed"));
    let keys =
        ["event_data", "event_id", "event_type", "metadata", "position", "schema", "stream_id", "version"];
    assert!(events.iter().all(|event| event.as_object().expect("an object").keys().eq(keys)));
    assert_eq!(
        place.cairn("events --output json").good(),
        text,
        "the form of the log, whatever is asked for"
    );
    let from = place.cairn(&format!("events --from {}", events.len() - 2)).good();
    assert!(text.ends_with(&from) && from.lines().count() == 3, "{from}");
    assert!(place.cairn("events --output yaml").good().starts_with("---\n"));
    assert_eq!(place.cairn("events apollo --follow").good(), text, "the run has ended");
}

#[test]
fn events_are_followed_to_the_end_of_the_run() {
    let place = Place::new();
    let mut run = half_way(&place);
    let mut child = place.command("events apollo --follow").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut out = child.stdout.take().expect("piped");
    let mut first = [0; 10];
    out.read_exact(&mut first).expect("what is there comes at once");
    run.wish(5_000, Command::Cancel { scope: Scope::Run, reason: "".into() });
    run.completed(2_010, 6_000, "build/lint");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("\"event_type\":\"RunCancelled\""), "{rest}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn logs_of_several_tasks_name_them() {
    let place = Place::new();
    drop(half_way(&place));
    let lines = "build/compile | one\nbuild/compile | two\nbuild/compile | \u{1b}[31mthree\nbuild/unit    | testing\n";
    assert_eq!(place.cairn("logs apollo").good(), lines);
    assert_eq!(place.cairn("logs apollo build").good(), lines);
    let ran = place.cairn("logs apollo ship");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "note: nothing was written\n"));
    let values = place.cairn("logs apollo --output jsonl --tail 1").good();
    assert_eq!(
        values,
        "{\"task\":\"build/compile\",\"attempt\":1,\"line\":\"\\u001b[31mthree\"}\n\
         {\"task\":\"build/unit\",\"attempt\":1,\"line\":\"testing\"}\n"
    );
    let value = place.cairn("logs apollo build/unit --output json").json();
    assert_eq!(
        value,
        json!({"run": "apollo.1", "logs": [{"task": "build/unit", "attempt": 1, "text": "testing\n"}]})
    );
}

#[test]
fn the_log_of_one_task_comes_as_it_is() {
    let place = Place::new();
    let run = half_way(&place);
    let bytes = b"\xff\xfe\x00not text\r\n".as_slice();
    run.log("build/compile", 1, bytes);
    drop(run);
    let output = place.command("logs apollo.1 build/compile").output().expect("it runs");
    assert_eq!(output.stdout, bytes);
    assert_eq!(place.cairn("logs apollo unit --attempt 1").good(), "testing\n");
    let said = |line: &str| place.cairn(line).err;
    assert_eq!(said("logs apollo unit --attempt 7"), "note: build/unit has had 1 attempts, not 7\n");
    assert_eq!(said("logs apollo build/lint"), "note: build/lint has written nothing yet\n");
    assert_eq!(said("logs apollo publish"), "note: ship/publish has not been started: it is pending\n");
    assert_eq!(said("logs apollo announced"), "note: ship/announced starts no process that could write\n");
}

#[test]
fn logs_are_followed_to_the_end_of_the_task() {
    let place = Place::new();
    let mut run = half_way(&place);
    run.log("build/lint", 1, "first\n");
    let mut child =
        place.command("logs apollo build/lint -f").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut out = child.stdout.take().expect("piped");
    let mut first = [0; 6];
    out.read_exact(&mut first).expect("what is there comes at once");
    run.log("build/lint", 1, "first\nsecond\nno line break");
    run.completed(2_010, 6_000, "build/lint");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!((first.as_slice(), rest.as_str()), (b"first\n".as_slice(), "second\nno line break"));
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn why_a_task_waits_is_explained() {
    let place = Place::new();
    drop(half_way(&place));
    let explained = |task: &str| place.cairn(&format!("explain apollo {task}")).good();
    let nobody = "  no process works on the run now: `cairn status` says how to continue it\n";
    let unit = explained("build/unit");
    assert_eq!(
        unit,
        format!(
            "build/unit is ○ pending in apollo.1\n  the next attempt is due in 8s: the last one failed: exit code 2\n\
             {nobody}  attempt 1 of at most 2, 1 failed\n  on the critical path, place 2 of 5 in the order of start\n"
        )
    );
    assert_eq!(
        explained("publish"),
        format!(
            "ship/publish is ○ pending in apollo.1\n  its milestone ship waits for build, which is active\n{nobody}  \
             on the critical path, place 4 of 5 in the order of start\n"
        )
    );
    let value = place.cairn("explain apollo announced --output json").json();
    assert_eq!(value["reasons"][0]["kind"], json!("needs"));
    assert_eq!(value["reasons"][0]["needs"][0]["id"], json!("ship/publish"));
}

#[test]
fn what_a_failure_skips_is_explained_with_its_cause() {
    let place = Place::new();
    failed(&place);
    let text = place.cairn("explain apollo announced").good();
    assert!(text.contains("  skipped because of build/unit, which is failed: exit code 2\n"), "{text}");
}

#[test]
fn the_score_is_explained_term_by_term() {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    failed(&place);
    let plan = place.cairn("explain plan.yaml scale").good();
    assert!(plan.contains("  10.0  5 * dependency_depth          2\n"), "{plan}");
    assert!(
        plan.contains("     -  data_mb / 10                  not known before there is a run\n"),
        "{plan}"
    );
    let run = place.cairn("explain apollo scale --output json").json();
    assert!(run["terms"]["data_mb"].as_f64().expect("a number") > 0.0);
    assert_eq!(run["in_force"], json!({"storage": "file", "pattern": "direct"}));
    let overview = place.cairn("explain apollo --output json").json();
    assert_eq!(overview["widest_level"], json!({"level": 1, "tasks": 2}));
    assert_eq!(overview["critical_path"][0]["duration_seconds"], json!(1.25));
}
