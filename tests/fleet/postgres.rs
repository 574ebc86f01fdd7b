//! A coordinator whose events are in PostgreSQL.

use super::alone::{Alone, count, edges};
use crate::e2e::postgres::{Database, psql};
use crate::e2e::support::{Place, check_log, told, wait_for};
use serde_json::Value;
use std::process::Output;

/// The file with the database's address.
const ADDRESS: &str = "store.url";

/// A coordinator by itself that finds its database in that file.
fn start(database: &Database) -> Alone {
    let place = Place::new();
    place.write(ADDRESS, &database.url());
    let mut alone = Alone { place, coordinator: None, config: "store_file: store.url\n" };
    alone.start_again();
    alone
}

/// Runs a command that knows nothing of the coordinator.
fn look(alone: &Alone, args: &[&str], address: Option<&str>) -> Output {
    let mut command = alone.place.command(args);
    command.args(["--state", "state"]).env_remove("PGPASSWORD");
    if let Some(address) = address {
        command.env("CAIRN_STORE_FILE", address);
    }
    command.output().expect("the binary starts")
}

#[test]
fn a_coordinator_keeps_its_events_in_postgresql() {
    let Some(database) = Database::new() else { return };
    let mut alone = start(&database);
    alone.plan_that_waits();
    assert_eq!(alone.ok(&["submit", "plan.yaml"]).trim(), "apollo.1");
    alone.wait_for_lines("began", 1);
    alone.daemon().kill();
    let events = |alone: &Alone| -> Vec<Value> {
        let output = look(alone, &["events", "apollo.1"], Some(ADDRESS));
        assert!(output.status.success(), "{}", told(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    };
    assert_eq!(count(&events(&alone), "TaskDispatched"), 1);
    let state = alone.place.path().join("state");
    assert!(!state.join("events").exists() && !state.join("cairn.db").exists(), "all is in the database");
    let pointer = alone.place.read("state/store");
    assert_eq!(pointer.lines().next(), Some(&*database.shown()), "it says where, and no password");
    // Whoever is not told the password is told what to do.
    let refused = look(&alone, &["status"], None);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    let said = told(&refused);
    assert!(said.contains(&database.shown()) && said.contains("CAIRN_STORE_FILE"), "{said}");
    alone.start_again();
    alone.place.write("go", "");
    alone.completes("apollo.1");
    check_log(&events(&alone), &edges(), 2);
    for args in [&["status", "apollo.1"][..], &["list"], &["explain", "apollo.1"], &["logs", "apollo.1", "a"]]
    {
        let told = told(&look(&alone, args, Some(ADDRESS)));
        assert!(!told.contains("error:") && !told.contains(&database.password()), "{args:?}: {told}");
    }
    assert_eq!(alone.place.read("state/store"), pointer, "it did not change");
    alone.daemon().signal("TERM");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    assert!(!alone.daemon().log().contains(&database.password()), "{}", alone.daemon().log());
}

#[test]
fn a_database_with_another_log_is_refused() {
    let Some(database) = Database::new() else { return };
    let alone = start(&database);
    alone.daemon().signal("TERM");
    assert_eq!(alone.daemon().wait(), Some(0), "{}", alone.daemon().log());
    database.lose();
    let refused = look(&alone, &["coordinator", "--config", "coordinator.yaml"], None);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    let said = told(&refused);
    assert!(said.contains("holds the log") && said.contains(&database.shown()), "{said}");
    // A store that the state directory does not know is not tried.
    let elsewhere =
        ["coordinator", "--listen", "127.0.0.1:0", "--store", "postgres://cairn:s3cret@127.0.0.1:1/other"];
    let refused = look(&alone, &elsewhere, None);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    let said = told(&refused);
    assert!(said.contains("the events are in postgres://") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_server_that_is_away_is_told_with_its_address_and_what_to_do() {
    let place = Place::new();
    let url = "postgres://cairn:s3cret@127.0.0.1:1/cairn";
    for args in [&["coordinator", "--listen", "127.0.0.1:0"][..], &["status"]] {
        let refused = place.command(args).env("CAIRN_STORE", url).output().expect("the binary starts");
        assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
        let said = told(&refused);
        assert!(said.contains("could not connect to `postgres://cairn@127.0.0.1:1/cairn`"), "{said}");
        assert!(said.contains("help: see that the database runs") && !said.contains("s3cret"), "{said}");
    }
}

/// What a statement answers.
fn rows(output: &Output) -> String {
    assert!(output.status.success(), "{}", told(output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// As the documentation grants it, for a login of the test's own.
fn documented(login: &str) -> (String, String) {
    let docs =
        std::fs::read_to_string(crate::e2e::support::root().join("docs/operations.md")).expect("it is there");
    let sql = docs
        .split("```sql\n")
        .find(|sql| sql.starts_with("GRANT USAGE ON SCHEMA cairn TO shop"))
        .expect("the grants");
    let sql = &sql[..sql.find("```").expect("its end")];
    let (grants, transaction) = sql.split_once("\n\n").expect("grants, and a transaction");
    (grants.replace("shop", login), transaction.to_owned())
}

#[test]
fn a_plan_is_submitted_if_and_only_if_the_transaction_commits() {
    let Some(database) = Database::new() else { return };
    let mut alone = start(&database);
    let login = format!("shop_{}", database.name());
    let (grants, transaction) = documented(&login);
    rows(&database.run(&format!("CREATE ROLE {login} LOGIN PASSWORD 'pass-word'; CREATE TABLE public.orders (id int); GRANT ALL ON public.orders TO {login};")));
    let url = database.url_of(&login, "pass-word");
    let refused = psql(&url, "SELECT cairn.submit('version: 1')");
    assert!(told(&refused).contains("permission denied"), "{}", told(&refused));
    rows(&database.run(&grants));

    rows(&psql(&url, &transaction.replace("COMMIT", "ROLLBACK")));
    let answers = rows(&psql(&url, &transaction));
    let id: u64 = answers.lines().next().and_then(|id| id.parse().ok()).expect("its number");
    let answer = |id: u64| {
        wait_for("an answer", || {
            let answer = rows(&psql(&url, &format!("SELECT run, error FROM cairn.submitted({id})")));
            (answer != "|").then_some(answer)
        })
    };
    assert_eq!(answer(id), "orders.1|", "what was rolled back made no run");
    alone.completes("orders.1");
    wait_for("what it printed", || (alone.ok(&["logs", "orders.1", "pack"]).trim() == "17").then_some(()));
    let submitted = alone.ok(&["events", "orders.1", "--output", "jsonl"]);
    assert!(submitted.contains(&format!("sql:{login}")), "{submitted}");
    assert_eq!(rows(&database.run("SELECT DISTINCT plan FROM cairn.submissions WHERE run IS NOT NULL")), "");

    // A plan that is wrong, parameters that are, and a table of the caller's that has our table's name.
    let submit = |arguments: &str| -> u64 {
        let said = rows(&psql(
            &url,
            &format!("CREATE TEMP TABLE submissions (id int); SELECT cairn.submit({arguments})"),
        ));
        said.parse().expect("a number")
    };
    let wrong = answer(submit("'{version: 1, project: orders, tasks: [{id: a, rum: x}]}'"));
    assert!(wrong.starts_with('|') && wrong.contains("rum"), "{wrong}");
    let wrong = answer(submit("'version: 1', '{\"a\": []}'"));
    assert!(wrong.contains("the parameter a is"), "{wrong}");
    let refused = psql(&url, "SELECT cairn.submit('version: 1', '[]')");
    assert!(told(&refused).contains("an object"), "{}", told(&refused));

    // Nobody takes it now; the next coordinator does, once.
    alone.daemon().kill();
    let id: u64 =
        rows(&psql(&url, &transaction)).lines().next().and_then(|id| id.parse().ok()).expect("its number");
    alone.start_again();
    assert_eq!(answer(id), "orders.2|");
    alone.completes("orders.2");
    // An answer that was lost: the same plan is taken up again, and is the same run.
    let text = "$$version: 1\nproject: orders\ntasks: [{id: a, run: exit 0}]\n$$";
    let id = submit(text);
    assert_eq!(answer(id), "orders.3|");
    let lost =
        format!("UPDATE cairn.submissions SET answered_at = NULL, run = NULL, plan = {text} WHERE id = {id}");
    rows(&database.run(&lost));
    assert_eq!(answer(id), "orders.3|");
    rows(&database.run(&format!("DROP OWNED BY {login}; DROP ROLE {login};")));
}
