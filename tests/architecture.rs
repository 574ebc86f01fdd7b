//! The rules of docs/architecture.md that a program can check: who may depend on whom, and what the pure core may
//! not touch.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// For each package of the workspace its dependencies, those for tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies").iter();
            (name(package), all.filter(|one| one["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn packages_depend_along_the_edges_of_the_design_only() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("cairn-model", &[][..]),
        ("cairn-engine", &["cairn-model"]),
        ("cairn-shared", &["cairn-model"]),
        ("cairn-coordinator", &["cairn-engine", "cairn-model", "cairn-shared"]),
        ("cairn-agent", &["cairn-model", "cairn-shared"]),
        ("cairn", &["cairn-agent", "cairn-coordinator", "cairn-engine", "cairn-model", "cairn-shared"]),
        (
            "cairn-tests",
            &["cairn", "cairn-agent", "cairn-coordinator", "cairn-engine", "cairn-model", "cairn-shared"],
        ),
    ]);
    let found = dependencies();
    assert_eq!(
        found.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>()
    );
    for (package, dependencies) in &found {
        for dependency in dependencies.iter().filter(|name| found.contains_key(*name)) {
            assert!(
                allowed[package.as_str()].contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let found = dependencies();
    let core: BTreeSet<&str> =
        found["cairn-engine"].iter().chain(&found["cairn-model"]).map(String::as_str).collect();
    assert_eq!(core.into_iter().collect::<Vec<_>>(), ["cairn-model", "hashbrown", "serde", "thiserror"]);
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The lines of a file before its unit tests.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

fn assert_absent(folder: &str, words: &[&str]) {
    for path in sources(&root().join(folder)) {
        if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        for (at, line) in shipped(&text) {
            let code = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!has(code, word), "{}:{}: `{word}` has no place there", path.display(), at + 1);
            }
        }
    }
}

#[test]
fn the_engine_and_the_machine_are_pure() {
    let words = [
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "std::env",
        "Instant",
        "SystemTime",
        "async ",
        "HashMap",
        "HashSet",
        "tokio",
        "rand::",
    ];
    assert_absent("coordinator/engine/src", &words);
    for file in ["machine.rs", "machine/fleet.rs", "machine/queue.rs", "machine/words.rs", "lease.rs"] {
        let text = std::fs::read_to_string(root().join("agent/src").join(file)).expect("a source file");
        for (at, line) in shipped(&text) {
            let code = line.split("//").next().unwrap_or_default();
            assert!(!words.iter().any(|word| has(code, word)), "agent/src/{file}:{}: {line}", at + 1);
        }
    }
}

/// Whether the word stands there, and not only the beginning of a longer one.
fn has(code: &str, word: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_');
    let ends_open = word.ends_with(|last: char| last.is_ascii_alphanumeric());
    code.match_indices(word).any(|(at, _)| !ends_open || !goes_on(&code[at + word.len()..]))
}

#[test]
fn the_model_does_no_io() {
    assert_absent(
        "shared/model/src",
        &[
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
            "std::env",
            "Instant",
            "SystemTime",
            ".await",
        ],
    );
}

#[test]
fn shared_has_no_storage_no_http_and_no_child_processes() {
    assert_absent("shared/src", &["std::net", "std::process", "Command::new"]);
    // What daemons have in common reads a file or two: its configuration, what the system tells of the process.
    for folder in ["shared/src/message", "shared/src/plan", "shared/src/transport"] {
        assert_absent(folder, &["std::fs"]);
    }
}
