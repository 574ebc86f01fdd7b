//! `cairn run` on each store: what a user names, what a state directory remembers, and that the store makes no difference
//! to what happens.

use super::kill::Random;
use super::postgres::Database;
use super::support::{Place, check_log, told, wait_for};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};

/// Tasks of the plan that is run on each store.
const TASKS: usize = 50;

/// Tasks at its end that are skipped.
const SKIPPED: usize = 8;

/// What differs between two runs of one plan: moments, how long something took, and what they are seeded with.
const TIMES: [&str; 4] = ["finished_at", "retry_at", "duration_seconds", "seed"];

/// A store, and how its user names it.
struct Store {
    name: &'static str,
    /// The value of `CAIRN_STORE`.
    url: Option<String>,
}

impl Store {
    /// Each of them, for state directories of their names in `place`; PostgreSQL where it is installed.
    fn all(place: &Place, database: Option<&Database>) -> Vec<Self> {
        let sqlite = format!("sqlite://{}/sqlite/cairn.db", place.path().display());
        let mut stores = vec![Self { name: "file", url: None }, Self { name: "sqlite", url: Some(sqlite) }];
        stores.extend(database.map(|database| Self { name: "postgres", url: Some(database.url()) }));
        stores
    }

    fn command(&self, place: &Place, args: &[&str]) -> Command {
        let mut command = place.command(args);
        command.args(["--state", self.name]);
        command.envs(self.url.iter().map(|url| ("CAIRN_STORE", url)));
        command
    }

    fn run(&self, place: &Place, args: &[&str]) -> Output {
        self.command(place, args).output().expect("the binary starts")
    }

    fn events(&self, place: &Place) -> Vec<Value> {
        let output = self.run(place, &["events"]);
        assert!(output.status.success(), "{}: {}", self.name, told(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }
}

/// A chain of tasks, so that the time that each takes decides nothing: some fail and are tried again, some fail and what
/// follows goes on all the same, the last one fails and what needs it is skipped.
fn chain(random: &mut Random) -> String {
    let mut text = "version: 1\nproject: alike\nmilestones:\n".to_owned();
    let mut before = String::new();
    let last = TASKS - SKIPPED - 1;
    for task in 0..TASKS {
        if task % 10 == 0 {
            let _ = writeln!(text, "- id: m{}\n  tasks:", task / 10);
        }
        let second = "'[ \"$CAIRN_ATTEMPT\" = 2 ]', retry: {max_attempts: 3, initial: 1ms}";
        let what = match random.below(4) {
            _ if task == last => "exit 7",
            0 => second,
            1 => "exit 3, continue_on_error: true, retry: {max_attempts: 2, initial: 1ms}",
            2 => "exit 4, continue_on_error: true",
            _ => "exit 0",
        };
        let needs = if task > last { format!("m{}/t{last}", last / 10) } else { before };
        let _ = writeln!(text, "  - {{id: t{task}, needs: [{needs}], run: {what}}}");
        before = format!("m{}/t{task}", task / 10);
    }
    text
}

/// What happened, without times and ids. Whether the start of a task is told before its end, or with it, is a matter of
/// time.
fn happened(events: &[Value]) -> Vec<String> {
    let told = events.iter().filter(|event| event["event_type"] != "TaskStarted");
    let line = |event: &Value| {
        let mut data = event["event_data"].clone();
        if let Some(data) = data.as_object_mut() {
            data.retain(|key, _| !TIMES.contains(&key.as_str()));
        }
        let (stream, kind) = (&event["stream_id"], &event["event_type"]);
        format!("{stream} {kind} {data} {} {}", event["metadata"]["user_id"], event["schema"])
    };
    told.map(line).collect()
}

#[test]
fn the_store_makes_no_difference_to_what_happens() {
    let seed = std::env::var("CAIRN_STORE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    println!("CAIRN_STORE_SEED={seed}");
    let (place, database) = (Place::new(), Database::new());
    place.write("plan.yaml", &chain(&mut Random(seed)));
    let mut first: Option<Vec<String>> = None;
    for store in Store::all(&place, database.as_ref()) {
        let ran = store.run(&place, &["run", "plan.yaml", "--jobs", "1"]);
        assert_eq!(ran.status.code(), Some(1), "{}: {}", store.name, told(&ran));
        let events = store.events(&place);
        check_log(&events, &[], TASKS);
        let happened = happened(&events);
        let of_kind = |kind: &str| happened.iter().filter(|line| line.contains(kind)).count();
        assert_eq!(of_kind("TaskSkipped"), SKIPPED);
        assert!(of_kind("TaskRetryScheduled") > 5 && of_kind("TaskFailed") > 5, "{happened:#?}");
        match &first {
            None => first = Some(happened),
            Some(first) => {
                for (at, (one, other)) in first.iter().zip(&happened).enumerate() {
                    assert_eq!(one, other, "event {at}: in files and in {}", store.name);
                }
                assert_eq!(first.len(), happened.len(), "{}", store.name);
            }
        }
    }
}

/// A plan whose first task says that it began, and goes on until a file is there.
fn plan_that_waits(place: &Place, store: &str) {
    let wait = format!("echo $$ >> {store}.began; while [ ! -e {store}.go ]; do sleep 0.02; done");
    place.write(
        "plan.yaml",
        &format!("version: 1\nproject: apollo\ntasks:\n- {{id: a, run: '{wait}'}}\n- {{id: b, run: exit 0, needs: [a]}}\n"),
    );
}

#[test]
fn a_run_that_was_killed_goes_on_in_its_store() {
    let (place, database) = (Place::new(), Database::new());
    for store in Store::all(&place, database.as_ref()) {
        let name = store.name;
        plan_that_waits(&place, name);
        let began = |count: usize| {
            let file = format!("{name}.began");
            wait_for(&file, || (place.read(&file).lines().count() >= count).then_some(()));
        };
        let mut run = store.command(&place, &["run", "plan.yaml"]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        began(1);
        let second = store.run(&place, &["run", "plan.yaml"]);
        assert_eq!(second.status.code(), Some(5), "{name}: {}", told(&second));
        assert!(
            told(&second).contains("cairn run plan.yaml"),
            "{name}: it says who has it: {}",
            told(&second)
        );
        run.kill().expect("ours");
        run.wait().expect("ours");
        let mut resumed = store.command(&place, &["run", "plan.yaml", "--resume"]);
        let mut resumed = resumed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        began(2);
        place.write(&format!("{name}.go"), "");
        let exit = wait_for("the end", || resumed.try_wait().expect("ours"));
        assert_eq!(exit.code(), Some(0), "{name}");
        check_log(&store.events(&place), &[("main/a".to_owned(), "main/b".to_owned())], 2);
        let has = |file: &str| place.path().join(name).join(file).exists();
        assert_eq!((has("events"), has("cairn.db")), (name == "file", name == "sqlite"), "{name}");
    }
}

#[test]
fn a_state_directory_remembers_its_store_and_takes_no_other() {
    let place = Place::new();
    place.write("plan.yaml", "version: 1\nproject: apollo\ntasks:\n- {id: a, run: exit 0}\n");
    place.write(".cairn.yaml", &format!("store: sqlite://{}/kept/cairn.db\n", place.path().display()));
    place.ok(["run", "plan.yaml", "--state", "kept"]);
    place.write(".cairn.yaml", "jobs: 1\n");
    place.ok(["run", "plan.yaml", "--state", "kept"]);
    let runs: Value =
        serde_json::from_str(&place.ok(["list", "--state", "kept", "--output", "json"])).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(2), "{runs}");
    assert!(!place.path().join("kept/events").exists(), "nothing is kept in files");
    let files = format!("file://{}/kept", place.path().display());
    let refused = place.run(["run", "plan.yaml", "--state", "kept", "--store", &files]);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    assert!(told(&refused).contains("the events are in sqlite://"), "{}", told(&refused));
    // A flag goes before the environment.
    let other = format!("sqlite://{}/other/cairn.db", place.path().display());
    let mut command = place.command(["run", "plan.yaml", "--state", "other", "--store", &other]);
    let ran = command.env("CAIRN_STORE", "postgres://cairn@127.0.0.1:1/cairn").output().expect("it starts");
    assert_eq!(ran.status.code(), Some(0), "{}", told(&ran));
    assert!(place.path().join("other/cairn.db").exists());
}

#[test]
fn a_database_that_is_away_is_told_with_what_to_do() {
    let place = Place::new();
    place.write("plan.yaml", "version: 1\nproject: apollo\ntasks:\n- {id: a, run: exit 0}\n");
    let refused = place.run(["run", "plan.yaml", "--store", "postgres://cairn:s3cret@127.0.0.1:1/cairn"]);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    let said = told(&refused);
    assert!(said.contains("could not connect to `postgres://cairn@127.0.0.1:1/cairn`"), "{said}");
    assert!(said.contains("CAIRN_STORE_FILE"), "{said}");
    for kept in ["lock", "store"] {
        assert!(!(said.clone() + &place.read(&format!(".milestones/{kept}"))).contains("s3cret"), "{kept}");
    }
}
