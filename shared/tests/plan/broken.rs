//! Every plan in `tests/broken` is refused, or warned of, in the words of the text file beside it.
//!
//! `CAIRN_BLESS=1` writes the text files anew; read the difference before it is committed. Lines like
//! `# param: NAME=VALUE` and `# limit: NAME=NUMBER` at the top of a plan say how it is read.

use cairn_shared::plan::{Limits, Options, Source, parse};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

/// The plans, in the order of their names.
fn plans() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("the folder of broken plans");
    let mut plans: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    plans.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "json"));
    plans.sort();
    plans
}

fn set_limit(limits: &mut Limits, name: &str, value: usize) {
    *match name {
        "plan_bytes" => &mut limits.plan_bytes,
        "expanded_bytes" => &mut limits.expanded_bytes,
        "tasks" => &mut limits.tasks,
        "edges" => &mut limits.edges,
        "task_bytes" => &mut limits.task_bytes,
        "nodes" => &mut limits.nodes,
        "depth" => &mut limits.depth,
        _ => panic!("no limit {name}"),
    } = value;
}

/// What is said about a plan.
fn said_about(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let name = path.file_name().expect("a file").to_string_lossy();
    let mut params = Vec::new();
    let mut limits = Limits::local();
    for line in text.lines().take_while(|line| line.starts_with("# ")) {
        if let Some((name, value)) = line.strip_prefix("# param: ").and_then(|pair| pair.split_once('=')) {
            params.push((name.to_string(), value.to_string()));
        }
        if let Some((name, value)) = line.strip_prefix("# limit: ").and_then(|pair| pair.split_once('=')) {
            set_limit(&mut limits, name, value.parse().expect("a number"));
        }
    }
    let source = Source::new(name, text);
    match parse(&source, &Options { params: &params, limits }) {
        Err(diagnostics) => diagnostics.to_string(),
        Ok(parsed) => match parsed.graph(&source) {
            Err(diagnostics) => diagnostics.to_string(),
            Ok(_) => parsed.warnings.to_string(),
        },
    }
}

#[test]
fn every_broken_plan_is_told_what_to_write_instead() {
    let bless = std::env::var_os("CAIRN_BLESS").is_some();
    let plans = plans();
    assert!(plans.len() >= 80, "there are only {} broken plans", plans.len());
    let mut wrong = Vec::new();
    for path in &plans {
        let said = said_about(path);
        assert!(!said.is_empty(), "{} is not broken", path.display());
        let beside = path.with_extension("txt");
        if bless {
            fs::write(&beside, said).expect("writable");
            continue;
        }
        match fs::read_to_string(&beside) {
            Err(_) => wrong.push(format!("{} is missing; run with CAIRN_BLESS=1", beside.display())),
            Ok(expected) if expected != said => {
                wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", path.display()));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), plans.len(), wrong.join("\n"));
}

#[test]
fn no_text_stands_beside_nothing() {
    for file in fs::read_dir(folder()).expect("the folder of broken plans") {
        let path = file.expect("readable").path();
        let has_plan = ["yaml", "json"].iter().any(|extension| path.with_extension(extension).exists());
        assert!(has_plan, "{} has no plan", path.display());
    }
}
