//! The dashboards: their form, and that what they ask for is there.

use super::{has_tool, must, root};
use cairn_coordinator::metric_definitions::ALL;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Metrics that other packages tell: the process, and the transport.
const OF_OTHERS: [&str; 6] = [
    "up",
    "cairn_build_info",
    "cairn_transport_messages_total",
    "cairn_transport_blocked_seconds_total",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
];

/// A panel's query, with what the dashboard's variables stand for.
pub(super) struct Query {
    /// `fleet.json: Slots`.
    pub name: String,
    /// PromQL.
    pub expression: String,
}

fn boards() -> Vec<(String, Value)> {
    let folder = std::fs::read_dir(root().join("deploy/grafana")).expect("a folder");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a dashboard");
        let board = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, board)
    };
    paths.iter().map(read).collect()
}

fn panels(board: &Value) -> &[Value] {
    board["panels"].as_array().expect("panels")
}

/// All queries of all panels, for a window that a test can wait for.
pub(super) fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, board) in boards() {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().expect("targets") {
                let title = panel["title"].as_str().expect("a title");
                let expression = target["expr"].as_str().expect("an expression");
                let expression = expression.replace("$__rate_interval", "15s");
                let expression = expression.replace("project=\"$project\"", "project=~\".+\"");
                assert!(
                    !expression.contains('$'),
                    "{file}: {title}: a variable that no test knows: {expression}"
                );
                queries.push(Query { name: format!("{file}: {title}"), expression });
            }
        }
    }
    queries
}

/// Names of metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    // What stands in quotes, or in braces, is a label.
    let mut bare = String::new();
    let mut depth = 0;
    for character in expression.chars() {
        depth += i32::from(character == '{') - i32::from(character == '}');
        bare.push(if depth == 0 { character } else { ' ' });
    }
    let words = bare.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words
        .filter(|word| *word == "up" || ["cairn_", "process_"].iter().any(|prefix| word.starts_with(prefix)));
    names.map(str::to_owned).collect()
}

/// Checks that somebody tells each metric of an expression.
pub(super) fn assert_known_metrics(place: &str, expression: &str) {
    let names = metrics_in(expression);
    assert!(!names.is_empty(), "{place}: no metric in {expression}");
    for name in names {
        let is_known =
            |name: &str| OF_OTHERS.contains(&name) || ALL.iter().any(|definition| definition.name == name);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(is_known(&name) || base.is_some_and(is_known), "{place}: nobody tells {name}");
    }
}

#[test]
fn dashboards_have_the_form_that_grafana_reads() {
    let boards = boards();
    assert_eq!(
        boards.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["fleet.json", "project.json"]
    );
    for (file, board) in &boards {
        assert!(board["uid"].as_str().is_some_and(|uid| uid.starts_with("cairn-")), "{file}");
        assert!(board["schemaVersion"].as_u64().is_some_and(|version| version >= 39), "{file}: Grafana 11");
        let variables = board["templating"]["list"].as_array().expect("variables");
        assert_eq!(variables[0]["type"], "datasource", "{file}: whoever imports it chooses the data source");
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for panel in panels(board) {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title}");
            let says = panel["description"].as_str().unwrap_or_default();
            assert!(says.ends_with('.'), "{file}: {title} has no description");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{file}: {title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}: {title}");
            let at = &panel["gridPos"];
            let field = |name: &str| at[name].as_u64().expect("a place");
            for x in field("x")..field("x") + field("w") {
                for y in field("y")..field("y") + field("h") {
                    assert!(x < 24 && places.insert((x, y)), "{file}: {title} lies upon another panel");
                }
            }
        }
        assert!((5..=20).contains(&panels(board).len()), "{file}: few and telling");
    }
}

#[test]
fn every_metric_of_a_panel_is_told_by_somebody() {
    for query in queries() {
        assert_known_metrics(&query.name, &query.expression);
    }
}

#[test]
fn every_query_of_a_panel_is_promql() {
    if !has_tool("promtool") {
        return;
    }
    // As rules of a file, which promtool parses without a server.
    let rules: Vec<Value> = queries()
        .iter()
        .enumerate()
        .map(|(index, query)| serde_json::json!({"record": format!("panel:{index}"), "expr": query.expression}))
        .collect();
    let count = rules.len();
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, groups.to_string()).expect("written");
    let told = must(Command::new("promtool").args(["check", "rules"]).arg(&file));
    assert!(told.contains(&format!("{count} rules found")), "{told}");
}

#[test]
fn metrics_in_an_expression_are_found() {
    let found = metrics_in("sum by (cairn_label) (rate(cairn_a_total{cairn_b=\"process_c\"}[5m])) / up");
    // A label outside braces looks like a metric; nobody has one that begins so.
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["cairn_a_total", "cairn_label", "up"]);
}
