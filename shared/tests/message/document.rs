//! `docs/protocol.md` tells the truth: its examples are messages, and it names all that there is.

use crate::golden::{all_types, types_of};
use cairn_model::FailureKind;
use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::wire::{ToAgent, ToCoordinator};
use std::collections::BTreeSet;
use std::path::Path;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(path).expect("a file of the repository")
}

fn document() -> String {
    file("docs/protocol.md")
}

fn examples(document: &str) -> Vec<&str> {
    let blocks = document.split("```json\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("split gives at least one part")).collect()
}

#[test]
fn every_example_is_a_message_and_every_message_has_an_example() {
    let document = document();
    let examples = examples(&document);
    for example in &examples {
        let to_agent = decode::<ToAgent>(Codec::Json.content_type(), example.as_bytes());
        let to_coordinator = decode::<ToCoordinator>(Codec::Json.content_type(), example.as_bytes());
        match (to_agent, to_coordinator) {
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => {}
            both => panic!("{example}\n{both:#?}"),
        }
    }
    assert_eq!(types_of(examples.iter().map(|example| example.as_bytes())), all_types());
}

fn members(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(all) => {
            found.extend(all.keys().cloned());
            all.values().for_each(|value| members(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| members(value, found)),
        _ => {}
    }
}

/// An example has exactly the members that Cairn writes, so that none is forgotten, or has another name.
#[test]
fn the_examples_show_and_the_text_explains_every_member() {
    let document = document();
    let (mut shown, mut written) = (BTreeSet::new(), BTreeSet::new());
    for example in examples(&document) {
        members(&serde_json::from_str(example).expect("JSON"), &mut shown);
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_messages");
    for entry in std::fs::read_dir(golden).expect("the golden messages") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(path).expect("a golden message");
            members(&serde_json::from_str(&text).expect("JSON"), &mut written);
        }
    }
    assert_eq!(shown, written);
    for member in written {
        assert!(document.contains(&format!("`{member}`")), "`{member}` is not explained");
    }
}

/// The causes that an agent may name, and whether another attempt follows.
#[test]
fn the_causes_are_those_that_are_known() {
    let document = document();
    let (_, rest) = document.split_once("`kind` is one of").expect("the causes");
    let (retried, rest) =
        rest.split_once("after which the task may be tried again").expect("the retryable ones");
    let (others, _) = rest.split_once("after which it is not").expect("the others");
    let causes = |text: &str| -> Vec<FailureKind> {
        let names = text.split('`').skip(1).step_by(2);
        names.map(|name| FailureKind::parse(name).unwrap_or_else(|| panic!("{name} is no cause"))).collect()
    };
    let (retried, others) = (causes(retried), causes(others));
    assert_eq!((retried.len(), others.len()), (4, 4));
    assert!(
        retried.iter().all(|cause| cause.is_retryable()) && !others.iter().any(|cause| cause.is_retryable())
    );
}

/// A queue keeps the arguments that it was made with, so whoever makes it must say the same.
#[test]
fn the_example_makes_its_queue_as_documented() {
    let (document, agent) = (document(), file("deploy/examples/agent.py").replace('_', ""));
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| `x-")).collect();
    assert_eq!(rows.len(), 7);
    for row in rows.into_iter().filter(|row| !row.contains("queues only")) {
        let words: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let value =
            if words[2].parse::<u64>().is_ok() { words[2].to_owned() } else { format!("{:?}", words[2]) };
        let argument = format!("{:?}: {value}", words[1]);
        assert!(agent.contains(&argument), "{argument} is not in the example");
    }
}
