//! Runs are shown as they were: `--at`.

use super::support::{Place, told};
use cairn_coordinator::codec::Decoder;
use cairn_coordinator::projection::StatusView;
use cairn_coordinator::runtime::{belongs, each_record, find_run, load_run};
use cairn_coordinator::store::file::LogReader;
use cairn_coordinator::store::{Cursor, ReadError};
use cairn_engine::{State, apply};
use cairn_model::Timestamp;
use serde_json::Value;
use std::path::Path;

const PLAN: &str = "\
version: 1
project: apollo
milestones:
- id: build
  tasks:
  - {id: a, run: exit 0}
  - {id: flaky, run: 'test $CAIRN_ATTEMPT = 2', retry: {max_attempts: 2, initial: 1ms}, needs: [a]}
- id: ship
  needs: [build]
  tasks: [{id: bad, run: exit 3}, {id: rest, run: exit 0, needs: [bad]}]
";

/// What a run's status was after each of its events, by a fold that knows nothing of points in time and snapshots.
pub fn statuses(state: &Path, run: &str) -> Vec<(u64, Timestamp, Value)> {
    let reader = LogReader::open(state).expect("a log");
    let summary = find_run(&reader, run).expect("the run");
    let plan = load_run(state, &reader, &summary, None).expect("the run").state;
    let (plan, graph) = (plan.plan().clone(), plan.graph().clone());
    let mut folded = State::new(plan.clone(), graph.clone());
    let mut decoder = Decoder::new(&plan, &graph, Vec::new());
    let mut statuses = Vec::new();
    each_record(&reader, &mut Cursor::all(1), |record| {
        if belongs(record.stream.as_str(), run) {
            let mut position = record.position;
            let decoded = decoder.decode(record, |event, at| {
                apply(&mut folded, &event, at);
                let status = serde_json::to_value(StatusView::new(&folded)).expect("JSON");
                statuses.push((position, at, status));
                position += 1;
            });
            decoded.expect("our own events");
        }
        Ok::<(), ReadError>(())
    })
    .expect("a sound log");
    statuses
}

fn status(place: &Place, run: &str, at: &str) -> Value {
    serde_json::from_str(&place.ok(["status", run, "--at", at, "--output", "json"])).expect("JSON")
}

#[test]
fn the_status_at_a_point_is_the_fold_of_the_events_up_to_it() {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    assert_eq!(place.run(["run", "plan.yaml"]).status.code(), Some(1), "one task fails");
    let state = place.path().join(".milestones");
    let first = statuses(&state, "apollo.1");
    assert!(first.len() > 15, "{}", first.len());
    for (at, (position, moment, expected)) in first.iter().enumerate() {
        assert_eq!(&status(&place, "apollo.1", &position.to_string()), expected, "at {position}");
        // Events of one moment cannot be told apart by time.
        if first.get(at + 1).is_none_or(|(_, next, _)| next > moment) {
            assert_eq!(&status(&place, "apollo.1", &moment.to_string()), expected, "at {moment}");
        }
    }
    let (last, _, newest) = first.last().expect("events");
    for later in [&(last + 1_000).to_string(), "2999-01-01T00:00:00Z", "-0s"] {
        assert_eq!(&status(&place, "apollo.1", later), newest, "{later}");
    }

    // Where the newest run has not begun, the project's name means the one before.
    assert_eq!(place.run(["run", "plan.yaml"]).status.code(), Some(1));
    assert_eq!(&status(&place, "apollo", &last.to_string()), newest);
    let begins = statuses(&state, "apollo.2")[0].0;
    assert_eq!(status(&place, "apollo", &begins.to_string())["run"], "apollo.2");
    for (run, at) in [("apollo.2", last.to_string()), ("apollo", "0".into()), ("apollo", "-1h".into())] {
        let refused = place.run(["status", run, "--at", &at]);
        assert_eq!(refused.status.code(), Some(3), "{run} at {at}: {}", told(&refused));
        assert!(told(&refused).contains("begins at position"), "{}", told(&refused));
    }
    assert_eq!(place.run(["status", "apollo", "--at", "yesterday"]).status.code(), Some(2));
    // For people, and for those who only want to know how it had ended.
    let text = place.ok(["status", "apollo.1", "--at", &begins.to_string(), "--all"]);
    assert!(text.contains("build/flaky") && text.contains("failed"), "{text}");
    let half = place.run(["status", "apollo.1", "--at", "3", "--exit-status"]);
    assert_eq!(half.status.code(), Some(7), "{}", told(&half));
}

#[test]
fn a_run_is_drawn_as_it_was() {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    assert_eq!(place.run(["run", "plan.yaml"]).status.code(), Some(1));
    let all = statuses(&place.path().join(".milestones"), "apollo.1");
    for (position, _, expected) in all.iter().step_by(4).chain(all.last()) {
        let drawn = place.ok(["graph", "apollo", "--at", &position.to_string(), "--format", "json"]);
        let drawn: Value = serde_json::from_str(&drawn).expect("JSON");
        assert_eq!(drawn["run"], "apollo.1");
        let nodes = drawn["nodes"].as_array().expect("nodes");
        for kind in ["tasks", "milestones"] {
            for row in expected[kind].as_array().expect("rows") {
                let node = nodes.iter().find(|node| node["id"] == row["id"]);
                assert!(node.is_none_or(|node| node["status"] == row["status"]), "{position}: {row}");
                assert!(node.is_some() || kind == "milestones", "{row}");
            }
        }
    }
    let now = place.ok(["graph", "apollo.1"]);
    assert!(now.starts_with("apollo.1: 2 milestones"), "{now}");
    assert!(now.contains("skipped"), "{now}");
    assert!(place.ok(["graph", "apollo", "--format", "dot"]).contains("label=\"bad: failed\""));
    let plan = place.ok(["graph", "plan.yaml", "--format", "json"]);
    assert!(!plan.contains("\"status\"") && !plan.contains("\"run\":"), "a plan stands nowhere: {plan}");
    assert_eq!(place.run(["graph", "apollo", "--at", "0"]).status.code(), Some(3));
}
