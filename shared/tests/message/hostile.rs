//! Bodies that nobody of ours would send: refused with a short word on what was received, never a panic.
//!
//! `CAIRN_FUZZ=COUNT` runs that many random bodies instead of 20,000. A failure prints its case: the same number is the
//! same body.

use crate::samples;
use cairn_shared::message::codec::{Codec, DecodeError, EncodeError, WireMessage, decode};
use cairn_shared::message::wire::*;
use cairn_shared::transport::MAX_MESSAGE_BYTES;
use std::error::Error as _;
use std::fmt::Debug;

const BINARY: &str = "application/x-bincode;v=1";
const JSON: &str = "application/json";
const DEFAULT_CASES: u64 = 20_000;
/// What an error says at most, with its cause.
const MAX_ERROR_BYTES: usize = 600;

fn refused(content_type: &str, body: &[u8]) -> String {
    let error = decode::<ToAgent>(content_type, body).expect_err("not a message");
    let text = describe(&error);
    assert!(text.len() <= MAX_ERROR_BYTES && !text.contains(char::is_control), "{text:?}");
    text
}

fn describe(error: &DecodeError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[test]
fn content_types_are_read_with_good_will() {
    for known in [BINARY, "application/x-bincode; v=1", "Application/X-Bincode;foo=2;V=1"] {
        assert_eq!(Codec::of_content_type(known), Some(Codec::Bincode), "{known}");
    }
    for known in [JSON, "application/json; charset=utf-8", "APPLICATION/JSON"] {
        assert_eq!(Codec::of_content_type(known), Some(Codec::Json), "{known}");
    }
    for unknown in
        ["", ";", "application/x-bincode", "application/x-bincode;v=2", "text/json", "application/jsonl"]
    {
        assert_eq!(Codec::of_content_type(unknown), None, "{unknown}");
    }
    for codec in [Codec::Bincode, Codec::Json] {
        assert_eq!(Codec::of_content_type(codec.content_type()), Some(codec));
    }
    assert_eq!(
        refused("text/plain", b"{}"),
        "the content type \"text/plain\" is not known here; known are \"application/x-bincode;v=1\" and \
         \"application/json\""
    );
    refused(&"x\u{7}".repeat(100_000), b"{}");
}

#[test]
fn a_refusal_tells_what_was_received() {
    assert_eq!(refused(BINARY, b""), "not a binary message: 0 bytes");
    assert_eq!(
        refused(BINARY, b"{\"type\":\"introduce\"}"),
        "not a binary message: 20 bytes, first 7b 22 74 79 70 65 22 3a 22 69 6e 74 72 6f 64 75"
    );
    assert_eq!(
        refused(BINARY, &[0xCA, 1, 1, 0, 99]),
        "a broken binary message: 5 bytes, first ca 01 01 00 63: UnexpectedVariant { type_name: \"ToAgent\", \
         allowed: Range { min: 0, max: 5 }, found: 99 }"
    );
    assert_eq!(
        refused(BINARY, &[0xCA, 1, 1, 0, 0, 7, 7]),
        "2 bytes follow the message: 7 bytes, first ca 01 01 00 00 07 07"
    );
    assert_eq!(
        refused(JSON, b"{\"type\":"),
        "a broken message in JSON: EOF while parsing a value at line 1 column 8: 8 bytes, first 7b 22 74 79 70 65 22 3a"
    );
    refused(JSON, format!("{{\"type\":\"{}\"}}", "\\u001b[2J".repeat(10_000)).as_bytes());
}

#[test]
fn another_version_is_refused_by_its_number() {
    let expected = "a message of version 2 of the protocol; this program reads version 1";
    assert_eq!(refused(BINARY, &[0xCA, 1, 2, 0, 99, 99]), expected);
    assert_eq!(refused(JSON, b"{\"protocol\":2,\"type\":\"not known yet\"}"), expected);
    refused(BINARY, &[0xCA, 1, 0, 0, 0]);
    refused(JSON, b"{\"protocol\":0,\"type\":\"introduce\"}");
    refused(JSON, b"{\"protocol\":18446744073709551615,\"type\":\"introduce\"}");
}

#[test]
fn json_is_read_with_good_will_but_not_guessed_at() {
    let read = |text: &str| decode::<ToAgent>(JSON, text.as_bytes());
    for fine in [
        "{\"type\":\"introduce\"}",
        "{\"protocol\":null,\"type\":\"introduce\"}",
        " {\"new\":{\"a\":[1.5]}, \"type\":\"introduce\", \"protocol\":1} \n",
    ] {
        assert_eq!(read(fine).expect(fine), ToAgent::Introduce);
    }
    for wrong in [
        "",
        "null",
        "[]",
        "[null,\"introduce\"]",
        "\"introduce\"",
        "{\"protocol\":\"1\",\"type\":\"introduce\"}",
        "{\"type\":\"introduce\",\"type\":\"introduce\"}",
        "{\"type\":\"introduce\"}{}",
        "{\"type\":\"hello\"}",
        "{\"type\":\"heartbeat_heard\",\"incarnation\":-1,\"sequence\":1}",
        "{\"type\":\"heartbeat_heard\",\"incarnation\":1.0,\"sequence\":1}",
    ] {
        refused(JSON, wrong.as_bytes());
    }
}

#[test]
fn a_hello_needs_no_more_than_what_it_says() {
    let least = br#"{"type":"hello","agent":"a","incarnation":1,"protocols":[1,1],"version":"x",
        "content_type":"application/json","slots":1}"#;
    let ToCoordinator::Hello(hello) = decode(JSON, least).expect("a hello") else { panic!("a hello") };
    assert_eq!((hello.slots, hello.backlog, hello.timers, hello.draining), (1, 0, 0, false));
    assert_eq!((hello.resources, hello.labels, hello.capability), (vec![], vec![], None));
}

#[test]
fn depth_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [127, 128, 100_000] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            refused(JSON, format!("{{\"type\":\"drain?\",\"x\":{deep}}}").as_bytes());
        }
    }
}

fn orders(orders: Vec<WireOrder>) -> ToAgent {
    ToAgent::Orders(RunOrders { run: "a.1".to_owned(), epoch: 1, incarnation: 1, orders })
}

fn exec(argv: Vec<String>) -> ToAgent {
    orders(vec![WireOrder::Offer(Box::new(Offer {
        task: 0,
        attempt: 1,
        name: "a/b".to_owned(),
        work: Work::Exec { argv },
        env: vec![],
        working_dir: None,
        timeout_millis: None,
        resources: vec![],
        needs_grant: false,
        hold: false,
    }))])
}

#[test]
fn what_can_be_encoded_can_be_decoded_up_to_the_limit() {
    fn check<T: WireMessage + PartialEq + Debug>(codec: Codec, message: &T) {
        let body = codec.encode(message).expect("within the limit");
        assert!(decode::<T>(codec.content_type(), &body).expect("what was encoded") == *message);
    }
    let room = MAX_MESSAGE_BYTES - 100;
    // The parts that take the most memory for a byte.
    check(Codec::Json, &exec(vec![String::new(); room / 4]));
    check(Codec::Bincode, &exec(vec![String::new(); room]));
    check(Codec::Bincode, &orders(vec![WireOrder::Recall; room]));
    let declined = WireReportKind::Declined { reason: String::new() };
    let (agent, run) = ("a".to_owned(), "a.1".to_owned());
    let reports = vec![WireReport { task: 0, attempt: 1, kind: declined }; room / 4];
    check(
        Codec::Bincode,
        &ToCoordinator::Reports(RunReports { agent: agent.clone(), incarnation: 1, run, reports }),
    );
    let holds = vec![Held { run: String::new(), epoch: 0, attempts: vec![] }; room / 3];
    let heartbeat = Heartbeat { agent, incarnation: 1, sequence: 1, draining: false, holds };
    check(Codec::Bincode, &ToCoordinator::Heartbeat(heartbeat));
    // Around the lengths at which the decoder may claim more.
    for bytes in [4 << 10, 128 << 10] {
        for words in [bytes - 20, bytes + 20] {
            check(Codec::Bincode, &exec(vec![String::new(); words]));
        }
    }
}

#[test]
fn a_message_over_the_limit_is_refused_on_both_sides() {
    let huge = exec(vec!["x".repeat(MAX_MESSAGE_BYTES)]);
    for codec in [Codec::Bincode, Codec::Json] {
        let error = codec.encode(&huge).expect_err("over the limit");
        assert!(
            matches!(error, EncodeError::TooLarge { kind: "orders", bytes } if bytes > MAX_MESSAGE_BYTES)
        );
        refused(codec.content_type(), &vec![b' '; MAX_MESSAGE_BYTES + 1]);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Says which case failed when a check panics.
struct Case(u64);

impl Drop for Case {
    #[expect(clippy::print_stdout, reason = "the output of a test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("case {} failed", self.0);
        }
    }
}

/// A body that is random, or a true one with a few wounds.
fn body(random: &mut Random, samples: &[Vec<u8>], codec: Codec) -> Vec<u8> {
    if random.below(8) == 0 {
        let mut body: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        if codec == Codec::Bincode {
            body.splice(..0, [0xCA, 1, 1, 0, random.below(6) as u8]);
        }
        return body;
    }
    let mut body = samples[random.below(samples.len())].clone();
    // Mostly one: what has many is refused at the first.
    for _ in 0..1 + random.below(4) * random.below(2) {
        let (at, to) = (random.below(body.len()), random.below(body.len()));
        let (from, to) = (at.min(to), at.max(to));
        match random.below(7) {
            0 => body.truncate(at),
            1 => drop(body.drain(from..to)),
            2 => body.extend_from_within(from..to),
            3 => {
                // The lengths and large numbers of bincode, and what means something in JSON.
                let word: &[u8] = match random.below(8) {
                    0 => &[0xFD; 9],
                    1 => &[0xFC, 0xFF, 0xFF, 0xFF, 0x0F],
                    2 => &[0xFB, 0xFF, 0xFF],
                    3 => b"\"",
                    4 => b"[[{\"type\":",
                    5 => b"1e999",
                    6 => b"\\ud800",
                    _ => b"null",
                };
                body.splice(at..at, word.iter().copied());
            }
            4 => {
                let other = &samples[random.below(samples.len())];
                body.truncate(at);
                body.extend(&other[random.below(other.len())..]);
            }
            _ if body.is_empty() => {}
            5 => body[at] ^= 1 << random.below(8),
            _ => body[at] = random.next() as u8,
        }
    }
    body
}

/// Whether it is a message; if so, it stays one.
fn try_decode<T: WireMessage + PartialEq + Debug>(codec: Codec, body: &[u8]) -> bool {
    match decode::<T>(codec.content_type(), body) {
        Ok(message) => {
            let again = codec.encode(&message).expect("a small message");
            assert_eq!(decode::<T>(codec.content_type(), &again).expect("what was encoded"), message);
            true
        }
        Err(error) => {
            let text = describe(&error);
            assert!(text.len() <= MAX_ERROR_BYTES && !text.contains(char::is_control), "{text:?}");
            false
        }
    }
}

#[test]
fn no_body_harms() {
    let cases =
        std::env::var("CAIRN_FUZZ").map_or(DEFAULT_CASES, |count| count.parse().expect("a number of cases"));
    for codec in [Codec::Bincode, Codec::Json] {
        let to_agent = samples::to_agent().into_iter().map(|(_, message)| codec.encode(&message));
        let to_coordinator = samples::to_coordinator().into_iter().map(|(_, message)| codec.encode(&message));
        let samples: Vec<Vec<u8>> =
            to_agent.chain(to_coordinator).map(|body| body.expect("a small message").to_vec()).collect();
        let mut accepted = 0_u64;
        for case in 0..cases {
            let said = Case(case);
            let body = body(&mut Random(case), &samples, codec);
            let is_message = try_decode::<ToAgent>(codec, &body) | try_decode::<ToCoordinator>(codec, &body);
            accepted += u64::from(is_message);
            drop(said);
        }
        println!("{codec:?}: {accepted} of {cases} bodies were messages");
        assert!(
            cases < 1_000 || (accepted > cases / 50 && accepted < cases / 2),
            "the wounds are too deep, or none"
        );
    }
}
