//! The bytes of every kind of message, as they stand in `shared/tests/golden_messages`.
//!
//! `CAIRN_BLESS=1` writes the files anew. That is right for a new message only: any other difference is another format,
//! and asks for another version of the protocol.

use crate::samples;
use cairn_shared::message::codec::{Codec, WireMessage, decode};
use cairn_shared::message::wire::*;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

fn file(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_messages").join(format!("{name}.{extension}"))
}

/// Bytes as text, 32 to a line, so that a difference can be read.
fn hex(bytes: &[u8]) -> String {
    let line =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(32).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two digits")).collect()
}

fn check<T: WireMessage + PartialEq + Debug>(samples: Vec<(&str, T)>) {
    for (name, message) in samples {
        let binary = Codec::Bincode.encode(&message).expect("a small message");
        let json = Codec::Json.encode(&message).expect("a small message");
        let json = String::from_utf8(json.to_vec()).expect("JSON is UTF-8") + "\n";
        for (extension, now) in [("hex", hex(&binary)), ("json", json)] {
            let path = file(name, extension);
            if std::env::var_os("CAIRN_BLESS").is_some() {
                std::fs::write(&path, &now).expect("a golden file");
            }
            let golden = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}; CAIRN_BLESS=1 writes it", path.display()));
            assert_eq!(now, golden, "{} is another format now", path.display());
            let (codec, body) = match extension {
                "hex" => (Codec::Bincode, unhex(&golden)),
                _ => (Codec::Json, golden.into_bytes()),
            };
            let read: T = decode(codec.content_type(), &body).expect("a golden message");
            assert_eq!(read, message, "{}", path.display());
        }
    }
}

#[test]
fn messages_are_the_bytes_that_they_were() {
    check(samples::to_agent());
    check(samples::to_coordinator());
}

/// The names of an enum's kinds: what serde offers to one that asks for another.
fn kinds<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_json::from_str::<T>(r#"{"type":"?","task":0,"attempt":0}"#) else {
        panic!("`?` is no kind of anything")
    };
    let text = error.to_string();
    let (_, offered) = text.split_once("expected one of ").expect("a list");
    offered.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn types_in(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(members) => {
            found.extend(members.get("type").and_then(|kind| kind.as_str()).map(str::to_owned));
            members.values().for_each(|value| types_in(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| types_in(value, found)),
        _ => {}
    }
}

/// The types of all parts of some messages in JSON.
pub fn types_of<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for body in bodies {
        types_in(&serde_json::from_slice(body).expect("JSON"), &mut found);
    }
    found
}

/// All types that a message or a part of one can have.
pub fn all_types() -> BTreeSet<String> {
    let all = [
        kinds::<ToAgent>(),
        kinds::<ToCoordinator>(),
        kinds::<WireOrder>(),
        kinds::<Work>(),
        kinds::<WireReport>(),
        kinds::<WireOutcome>(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn every_kind_has_golden_bytes() {
    let encode = |message: &ToAgent| Codec::Json.encode(message).expect("a small message");
    let mut bodies: Vec<_> = samples::to_agent().iter().map(|(_, message)| encode(message)).collect();
    let encode = |message: &ToCoordinator| Codec::Json.encode(message).expect("a small message");
    bodies.extend(samples::to_coordinator().iter().map(|(_, message)| encode(message)));
    assert_eq!(types_of(bodies.iter().map(AsRef::as_ref)), all_types());
}

#[test]
fn the_kind_of_a_message_is_its_type() {
    fn check<T: WireMessage>(message: &T) {
        let body = Codec::Json.encode(message).expect("a small message");
        let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(value["type"], message.kind());
    }
    samples::to_agent().iter().for_each(|(_, message)| check(message));
    samples::to_coordinator().iter().for_each(|(_, message)| check(message));
}
