//! Real traces become plans with the tasks, edges and lengths that are known of them.

use cairn_model::plan::Action;
use cairn_shared::plan::import::{MAX_IMPORT_BYTES, Runner, WfCommonsOptions, text_of, wfcommons};
use cairn_shared::plan::{Options, Source, parse};
use std::path::PathBuf;

/// The folder of real inputs; nothing, said aloud, where it is missing.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn data(folder: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("CAIRN_DATA") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    let is_required = std::env::var("CAIRN_REQUIRE_DATA").is_ok_and(|value| value == "1");
    assert!(!is_required, "{} is missing and CAIRN_REQUIRE_DATA is set", path.display());
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// File, tasks, edges, and seconds of the critical path.
const KNOWN: [(&str, usize, usize, f64); 15] = [
    ("helloworld-forkjoin-10-chameleon.json", 10, 16, 307.36),
    ("bacass-dirt02-001.json", 11, 14, 2150.0),
    ("srasearch-chameleon-10a-001.json", 22, 30, 1005.86),
    ("epigenomics-chameleon-hep-1seq-100k-001.json", 41, 48, 104.82),
    ("1000genome-chameleon-2ch-100k-001.json", 52, 76, 204.69),
    ("montage-chameleon-2mass-01d-001.json", 103, 231, 21.12),
    ("blast-chameleon-large-001.json", 103, 300, 1819.12),
    ("bwa-chameleon-small-001.json", 104, 400, 91.37),
    ("srasearch-chameleon-50a-001.json", 104, 152, 2833.02),
    ("cycles-chameleon-1l-1c-12p-001.json", 219, 325, 250.11),
    ("1000genome-chameleon-22ch-250k-001.json", 902, 1166, 313.98),
    ("seismology-chameleon-1100p-001.json", 1101, 1100, 5.45),
    ("montage-gen-10000.json.gz", 9986, 30579, 1665.15),
    ("epigenomics-gen-5000.json.gz", 4995, 6738, 1209.43),
    ("1000genome-gen-1000.json.gz", 998, 1326, 549.44),
];

#[test]
fn real_traces_become_plans() {
    let Some(folder) = data("wfcommons") else { return };
    for (file, tasks, edges, seconds) in KNOWN {
        let bytes = std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let text = text_of(&bytes, MAX_IMPORT_BYTES).unwrap_or_else(|error| panic!("{file}: {error}"));
        for runner in [Runner::Sleep, Runner::Wait] {
            let options = WfCommonsOptions { runner, ..WfCommonsOptions::default() };
            let plan = wfcommons(&text, &options).unwrap_or_else(|error| panic!("{file}: {error}"));
            let source = Source::new(file, plan);
            let parsed = parse(&source, &Options::default()).unwrap_or_else(|error| panic!("{error}"));
            let graph = parsed.graph(&source).unwrap_or_else(|error| panic!("{error}"));
            let plan = &parsed.plan;
            assert_eq!((plan.task_count(), plan.edge_count()), (tasks, edges), "{file}");
            assert_eq!(plan.takes_slot(cairn_model::TaskIndex(0)), runner == Runner::Sleep);
            assert!(plan.tasks().all(|task| !matches!(plan.action(task), Action::Checkpoint)));
            let mut ends = vec![0.0_f64; plan.task_count()];
            for node in graph.order() {
                let task = cairn_model::TaskIndex(node.0);
                if task.get() >= ends.len() {
                    continue;
                }
                let starts = plan.needs(task).iter().map(|need| match need {
                    cairn_model::Need::Task(task) => ends[task.get()],
                    cairn_model::Need::Milestone(_) => unreachable!("traces have no milestones"),
                });
                let length = plan.expected_duration(task).expect("known").as_secs_f64();
                ends[task.get()] = starts.fold(0.0, f64::max) + length;
            }
            let longest = ends.iter().copied().fold(0.0, f64::max);
            assert!((longest - seconds).abs() < 0.01, "{file}: {longest} is not {seconds}");
        }
    }
}

#[test]
fn a_scale_shortens_everything() {
    let Some(folder) = data("wfcommons") else { return };
    let text =
        std::fs::read_to_string(folder.join("helloworld-forkjoin-10-chameleon.json")).expect("readable");
    let options = WfCommonsOptions { scale: 0.001, runner: Runner::Wait, project: Some("hello") };
    let source = Source::new("hello", wfcommons(&text, &options).expect("a trace"));
    let plan = parse(&source, &Options::default()).unwrap_or_else(|error| panic!("{error}")).plan;
    assert_eq!(plan.project, "hello");
    let total: f64 =
        plan.tasks().filter_map(|task| plan.expected_duration(task)).map(|d| d.as_secs_f64()).sum();
    assert!((total - 1.0287).abs() < 0.001, "{total}");
}
