//! `kill -9` at random moments, and `--resume`: nothing is lost, nothing is done twice in the log.

use super::support::{Place, check_log, now, told};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

/// Tasks of the plan: layers of 25, each task needs two of the layer before.
const TASKS: usize = 500;
const LAYER: usize = 25;

/// How often the run is killed; the long round is run with CAIRN_KILLS=100.
fn kills() -> usize {
    std::env::var("CAIRN_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// A sequence of numbers from a seed: SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn plan() -> (String, Vec<(String, String)>) {
    let (mut text, mut edges) = ("version: 1\nproject: killed\ntasks:\n".to_owned(), Vec::new());
    for task in 0..TASKS {
        let needs: Vec<usize> = match task.checked_sub(LAYER) {
            None => Vec::new(),
            Some(above) => vec![above, above / LAYER * LAYER + (above + 7) % LAYER],
        };
        edges.extend(needs.iter().map(|need| (format!("main/t{need}"), format!("main/t{task}"))));
        let names: Vec<String> = needs.iter().map(|need| format!("t{need}")).collect();
        let names = names.join(", ");
        let _ = writeln!(
            text,
            "  - {{id: t{task}, needs: [{names}], run: 'sleep 0.01; echo t{task} >> done.txt'}}"
        );
    }
    (text, edges)
}

#[test]
fn a_run_killed_again_and_again_loses_nothing() {
    let seed = std::env::var("CAIRN_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    println!("CAIRN_KILL_SEED={seed} CAIRN_KILLS={}", kills());
    let mut random = Random(seed);
    let place = Place::new();
    let (text, edges) = plan();
    place.write("plan.yaml", &text);
    let resume = ["run", "plan.yaml", "--resume", "--jobs", "4"];
    // About as long as the whole run takes here, so that the kills spread over it.
    let budget =
        u64::try_from(TASKS * 10 / 4).expect("small") * 2 * 1000 / u64::try_from(kills()).expect("small");
    let mut killed = 0;
    for _ in 0..kills() {
        let mut child =
            place.command(resume).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let until = now() + Duration::from_micros(random.below(budget + 20_000));
        while now() < until && child.try_wait().expect("it is ours").is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        killed += usize::from(child.try_wait().expect("it is ours").is_none());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
    let last = place.run(resume.into_iter().chain(["--output", "json"]));
    assert_eq!(last.status.code(), Some(0), "{}", told(&last));
    println!("killed {killed} times while it ran");
    assert!(killed > 0, "the run was over before the first kill");
    check_log(&place.events(), &edges, TASKS);
    let lines = place.read("done.txt");
    let done: HashSet<&str> = lines.lines().collect();
    assert_eq!(done.len(), TASKS, "every task ran to its end at least once");
    let mut first = HashMap::new();
    for (at, line) in lines.lines().enumerate() {
        first.entry(format!("main/{line}")).or_insert(at);
    }
    assert!(
        edges.iter().all(|(parent, child)| first[parent] < first[child]),
        "no process ran before its needs"
    );
    let status: serde_json::Value =
        serde_json::from_str(&place.ok(["status", "killed", "--output", "json"])).expect("JSON");
    assert_eq!(status["status"], "completed");
    assert_eq!(status["counts"]["completed"], TASKS);
    // What the last process had in memory is what a replay gives: from the newest snapshot, and from the beginning.
    let live: serde_json::Value = serde_json::from_slice(&last.stdout).expect("JSON");
    assert_eq!(live, status, "the replayed state equals the live one");
    std::fs::remove_dir_all(place.path().join(".milestones/snapshots")).expect("a long run has snapshots");
    let replayed: serde_json::Value =
        serde_json::from_str(&place.ok(["status", "killed", "--output", "json"])).expect("JSON");
    assert_eq!(replayed, live, "with and without a snapshot");
    // As if the last process had died before it could move the files of its run.
    let (active, completed) = [".milestones/active/killed.1", ".milestones/completed/killed.1"]
        .map(|path| place.path().join(path))
        .into();
    std::fs::rename(&completed, &active).expect("a run that has ended has its files there");
    let again = place.run(resume);
    assert!(completed.is_dir() && !active.exists(), "files that were left behind are finished");
    assert_eq!(again.status.code(), Some(0), "{}", told(&again));
    assert_eq!(place.read("done.txt"), lines, "what is completed is not run again");
}

#[test]
fn what_must_run_at_most_once_is_not_tried_again() {
    let place = Place::new();
    place.write(
        "plan.yaml",
        "version: 1\nproject: once\ntasks:\n  - {id: pay, run: 'echo paid >> paid.txt; sleep 600', at_most_once: true}\n",
    );
    let mut child = place
        .command(["run", "plan.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    super::support::wait_for("the task to start", || {
        place.read("paid.txt").starts_with("paid").then_some(())
    });
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let resumed = place.run(["run", "plan.yaml", "--resume"]);
    assert_eq!(resumed.status.code(), Some(1), "{}", told(&resumed));
    assert_eq!(place.read("paid.txt"), "paid\n");
    let status: serde_json::Value =
        serde_json::from_str(&place.ok(["status", "once", "--output", "json"])).expect("JSON");
    assert_eq!(status["tasks"][0]["error"]["kind"], "outcome_unknown");
}
