//! The commands that speak to a coordinator, against one that says what the test has it say.

use crate::fake::{Answer, Asked, Fake};
use crate::place::{Place, Ran};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::Stdio;

const PLAN: &str = "version: 1\nproject: apollo\ntasks:\n  - {id: a, run: echo}\n";

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let kind = format!("urn:cairn:problem:{kind}");
    let body =
        json!({"type": kind, "title": "t", "status": status, "detail": detail, "help": "do something"});
    Answer::Json(status, body)
}

fn task(id: &str, status: &str, attempt: u32, error: Option<(&str, &str)>) -> Value {
    let error = error.map(|(kind, message)| json!({"kind": kind, "message": message}));
    json!({"id": id, "status": status, "attempt": attempt, "agent": null, "exit_code": null, "progress": 0.0,
           "started_at": (attempt > 0).then_some("2026-01-01T00:00:01.000000Z"), "finished_at": null,
           "duration_seconds": null, "error": error})
}

fn tasks(status: &str) -> Vec<Value> {
    match status {
        "completed" => vec![task("build/a", "completed", 1, None), task("build/b", "completed", 1, None)],
        "failed" => vec![
            task("build/a", "completed", 1, None),
            task("build/b", "failed", 2, Some(("exit_code", "exit code 3"))),
        ],
        "unplaceable" => vec![
            task("build/a", "completed", 1, None),
            task("build/b", "failed", 0, Some(("unplaceable", "no agent has gpu 1"))),
        ],
        _ => vec![task("build/a", "in_progress", 1, None), task("build/b", "pending", 0, None)],
    }
}

fn status(status: &str, with_tasks: bool) -> Value {
    let tasks = tasks(status);
    let word = if status == "unplaceable" { "failed" } else { status };
    let count = |kind: &str| tasks.iter().filter(|task| task["status"] == json!(kind)).count();
    let kinds =
        ["pending", "ready", "dispatched", "in_progress", "completed", "failed", "skipped", "cancelled"];
    let counts: serde_json::Map<_, _> =
        kinds.map(|kind| (kind.to_owned(), json!(count(kind)))).into_iter().collect();
    let is_over = !matches!(word, "active" | "paused");
    let mut value = json!({
        "schema": 1, "run": "apollo.3", "project": "apollo", "status": word, "progress": 0.5, "scale": null,
        "pattern": "direct", "storage": "file", "submitted_at": "2026-01-01T00:00:00.000000Z",
        "started_at": null, "finished_at": is_over.then_some("2026-01-01T00:03:05.000000Z"), "counts": counts,
        "milestones": [{"id": "build", "status": "active", "progress": 0.5, "due": null, "tasks_total": 2,
                        "tasks_completed": count("completed")}],
        "forecast": null, "critical_path": ["build/a"], "of_a_later_release": 7,
    });
    if with_tasks {
        value["tasks"] = json!(tasks);
    }
    value
}

fn event(position: u64, kind: &str, data: Value) -> String {
    let event = json!({
        "position": position, "event_id": "x", "stream_id": "apollo.3/build", "event_type": kind,
        "event_data": data, "version": position, "schema": 1,
        "metadata": {"timestamp": "2026-01-01T12:00:00.000000Z", "user_id": "ada", "correlation_id": "c",
                     "causation_id": null},
    });
    format!("id: {position}\ndata: {event}\n\n")
}

fn completed(position: u64, task: &str) -> String {
    event(position, "TaskCompleted", json!({"task": task, "attempt": 1, "duration_seconds": 1.5}))
}

const END: &str = "event: end\ndata: {\"run\":\"apollo.3\"}\n\n";

fn bytes(pieces: &[String]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.clone().into_bytes()).collect()
}

/// Answers what every command asks about a run that ends so once its events have been followed.
fn run(asked: &Asked, is_over: bool, end: &str) -> Option<Answer> {
    let now = if is_over { end } else { "active" };
    let path = asked.line.strip_prefix("GET /api/v1/runs/apollo")?;
    let (name, query) = path.split_once('?').unwrap_or((path, ""));
    Some(match name {
        "" | ".3" => Answer::Json(200, status(now, !query.contains("tasks=false"))),
        ".3/tasks" => {
            let wanted = query.split('&').find_map(|part| part.strip_prefix("status="));
            let mut tasks = tasks(now);
            tasks.retain(|task| wanted.is_none_or(|wanted| task["status"] == json!(wanted)));
            Answer::Json(200, json!({"tasks": tasks, "next_cursor": null}))
        }
        _ => return None,
    })
}

/// A coordinator with a run that ends so at once.
fn ending(end: &'static str) -> Fake {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    Fake::start(move |asked| {
        if asked.line.starts_with("POST /api/v1/runs?") {
            return Answer::Json(201, json!({"run": "apollo.3", "project": "apollo", "is_new": true}));
        }
        if asked.line.contains("/events?") {
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            return Answer::Whole(Vec::new(), bytes(&[END.to_owned()]));
        }
        run(asked, is_over.load(std::sync::atomic::Ordering::SeqCst), end).expect("nothing else is asked")
    })
}

fn cairn(place: &Place, fake: &Fake, line: &str) -> Ran {
    place.cairn(&format!("{line} --url {}", fake.url))
}

#[test]
fn a_stream_that_breaks_goes_on_without_a_gap() {
    let fake = Fake::start(|asked| {
        if !asked.line.contains("/events?") {
            // Its end is known only once all was told.
            let is_over = asked.line.contains("/apollo.3");
            return run(asked, is_over, "completed").expect("nothing else is asked");
        }
        let told = event(2, "TaskDispatched", json!({"task": "build/b", "attempt": 1, "agent": "x"}));
        match asked.header("last-event-id") {
            // In the middle of an event.
            "" => Answer::Broken(bytes(&[completed(1, "build/a"), told, "id: 3\ndata: {\"posi".to_owned()])),
            "2" if asked.before == 1 => Answer::None,
            "2" => Answer::Whole(
                Vec::new(),
                bytes(&[told, ": still here\n\n".to_owned(), completed(3, "build/b"), END.to_owned()]),
            ),
            other => panic!("no such event was told: {other}"),
        }
    });
    let place = Place::new();
    let ran = cairn(&place, &fake, "watch apollo");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.err,
        "12:00:00Z ✔ build/a completed in 1.5s\n\
         note: lost the coordinator, trying again\n\
         note: the coordinator is back\n\
         12:00:00Z ✔ build/b completed in 1.5s\n\
         apollo.3 ✔ completed in 3m05s: 2 of 2 tasks completed\n"
    );
    assert_eq!(ran.out, "");
}

#[test]
fn watching_begins_where_the_status_ends() {
    let fake = Fake::start(|asked| match asked.line.split_once("/events?") {
        Some((_, query)) => {
            assert_eq!(query, "follow=true&from=42");
            Answer::Whole(
                Vec::new(),
                bytes(&[completed(41, "build/a"), completed(42, "build/b"), END.to_owned()]),
            )
        }
        None if asked.line.contains("/tasks?") => run(asked, true, "completed").expect("tasks"),
        None => {
            let now = if asked.before == 0 { "active" } else { "completed" };
            let body = status(now, false).to_string().into_bytes();
            Answer::Whole(vec![("cairn-position", "41".to_owned())], vec![body])
        }
    });
    let ran = cairn(&Place::new(), &fake, "watch apollo.3");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.starts_with("12:00:00Z ✔ build/b completed in 1.5s\n"), "{}", ran.err);
}

#[test]
fn watching_ends_like_the_run() {
    let place = Place::new();
    let watched = |end| cairn(&place, &ending(end), "watch apollo.3");
    let ran = watched("failed");
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = "✖ failed build/b (attempt 2): exit code 3\napollo.3 ✖ failed in 3m05s: 1 of 2 tasks completed, 1 failed\n";
    assert!(ran.err.ends_with(said), "{}", ran.err);
    assert_eq!(watched("unplaceable").code, 8);
    assert_eq!(watched("cancelled").code, 6);
    let value = cairn(&place, &ending("completed"), "watch apollo --output json").json();
    assert_eq!((&value["status"], &value["of_a_later_release"]), (&json!("completed"), &json!(7)));
}

#[test]
fn a_plan_is_submitted_once_however_often_it_is_sent() {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    let fake = Fake::start(|asked| match asked.before {
        0 => Answer::None,
        1 => problem(503, "unavailable", "it is starting"),
        _ => Answer::Json(201, json!({"run": "apollo.3", "project": "apollo", "is_new": true})),
    });
    let ran = cairn(&place, &fake, "submit plan.yaml --param who=ada&co --fail-fast");
    assert_eq!((ran.code, ran.out.as_str()), (0, "apollo.3\n"), "{}", ran.err);
    assert_eq!(ran.err.matches("trying again").count(), 1, "{}", ran.err);
    let asked = fake.asked();
    assert_eq!(asked.len(), 3);
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key")).collect();
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(asked[2].line, "POST /api/v1/runs?param=who%3Dada%26co&fail_fast=true&name=plan.yaml");
    assert_eq!((asked[2].body.as_str(), asked[2].header("content-type")), (PLAN, "application/yaml"));
    cairn(&place, &fake, "submit plan.yaml --key build-7").good();
    assert_eq!(fake.asked().last().expect("asked").header("idempotency-key"), "build-7");
    assert_eq!(cairn(&place, &fake, "submit plan.yaml --timeout 3s").code, 2, "there is no wait");
}

#[test]
fn submit_and_wait_prints_the_run_and_ends_like_it() {
    let place = Place::new();
    place.write("plan.yaml", PLAN);
    let ran = cairn(&place, &ending("failed"), "submit plan.yaml --wait");
    assert_eq!((ran.code, ran.out.as_str()), (1, "apollo.3\n"), "{}", ran.err);
    let ran = cairn(&place, &ending("completed"), "submit plan.yaml --watch --output json");
    assert_eq!(ran.json(), json!({"run": "apollo.3", "project": "apollo", "is_new": true}));
}

/// A coordinator with a run that does not end.
fn endless() -> Fake {
    Fake::start(|asked| {
        if asked.line.contains("/events?") {
            return Answer::Open(bytes(&[completed(1, "build/a")]));
        }
        run(asked, false, "").expect("nothing else is asked")
    })
}

#[test]
fn a_wait_has_its_time() {
    let ran = cairn(&Place::new(), &endless(), "watch apollo --timeout 200ms");
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains("apollo.3 goes on: `cairn watch apollo.3`"), "{}", ran.err);
}

#[test]
fn an_interrupt_ends_the_watching_and_not_the_run() {
    let (place, fake) = (Place::new(), endless());
    let mut child = place
        .command(&format!("watch apollo --url {}", fake.url))
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut err = child.stderr.take().expect("piped");
    // The first line comes when it listens to both events and signals.
    let mut first = [0; 9];
    err.read_exact(&mut first).expect("a line");
    let pid = i32::try_from(child.id()).expect("a process");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let mut rest = String::new();
    err.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("interrupted; apollo.3 goes on"), "{rest}");
    assert!(fake.asked().iter().all(|asked| asked.line.starts_with("GET ")), "nothing was done to the run");
}

#[test]
fn refusals_have_their_codes_and_say_what_to_do() {
    let place = Place::new();
    let refused = |answer: fn() -> Answer, line: &str| cairn(&place, &Fake::start(move |_| answer()), line);
    let ran = refused(|| problem(401, "unauthenticated", "no good token"), "agents");
    assert_eq!(ran.code, 4);
    assert!(
        ran.err.contains("error: no good token\nhelp: no token was sent: name its file with"),
        "{}",
        ran.err
    );
    let ran = refused(|| problem(403, "forbidden", "a viewer may not"), "pause apollo");
    assert_eq!((ran.code, ran.err.as_str()), (4, "error: a viewer may not\nhelp: do something\n"));
    let ran = refused(|| problem(404, "run-not-found", "there is no run apollo"), "status apollo");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (3, "error: there is no run apollo\nhelp: `cairn list` shows all runs\n")
    );
    assert_eq!(refused(|| problem(409, "not-possible-now", "it has ended"), "cancel apollo").code, 2);
    let ran = refused(|| problem(500, "internal", "a defect"), "list --output json");
    let value: Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!((ran.code, &value["error"]["kind"]), (5, &json!("out_of_reach")));
    let ran = refused(|| Answer::Whole(Vec::new(), vec![b"<html>".to_vec()]), "list");
    assert!(ran.code == 5 && ran.err.contains("cannot be read"), "{}", ran.err);
    let ran = refused(|| Answer::Json(302, json!({})), "list");
    assert!(ran.code == 5 && ran.err.contains("answered 302"), "{}", ran.err);
}

#[test]
fn an_invalid_plan_is_shown_with_its_lines() {
    let place = Place::new();
    place.write("plan.yaml", PLAN.replace("run:", "rnu:"));
    let fake = Fake::start(|_| problem(422, "invalid-plan", "one thing is wrong"));
    let ran = cairn(&place, &fake, "submit plan.yaml");
    assert_eq!(ran.code, 2);
    assert_eq!(ran.err, place.cairn("validate plan.yaml").err);
    let ran = cairn(&place, &fake, "submit plan.yaml --output json");
    let value: Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!(value["error"]["diagnostics"][0]["place"]["line"], json!(4));
}

#[test]
fn a_coordinator_that_is_not_there_is_told_with_what_was_tried() {
    let place = Place::new();
    // A port that was just free.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let ran = place.cairn(&format!("agents --url http://127.0.0.1:{port}"));
    assert_eq!(ran.code, 5);
    let place_told = format!("nobody listens at http://127.0.0.1:{port}/ (from --url)");
    assert_eq!(
        ran.err,
        format!(
            "note: {place_told}; trying again\nerror: {place_told}\nhelp: start one with `cairn coordinator`, or \
             name another with --url URL\n"
        )
    );
    let ran = place.cairn("agents --url http://no-such-machine.invalid");
    assert!(ran.code == 5 && ran.err.contains("cannot find the coordinator"), "{}", ran.err);
    assert!(!ran.err.contains("trying again"), "a wrong name stays wrong: {}", ran.err);
    let ran = place.cairn("pause apollo");
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("no coordinator serves .milestones\nhelp: start one with"), "{}", ran.err);
}

#[test]
fn an_encrypted_connection_that_is_none_is_told() {
    let fake = Fake::start(|_| Answer::None);
    let url = fake.url.replace("http:", "https:");
    let ran = Place::new().cairn(&format!("agents --url {url}"));
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(fake.asked().is_empty());
}

fn no_agents(_: &Asked) -> Answer {
    Answer::Json(200, json!({"agents": []}))
}

#[test]
fn tokens_are_taken_in_their_order_and_never_shown() {
    let (place, fake) = (Place::new(), Fake::start(no_agents));
    let profiles = format!("profile: p\nprofiles: {{p: {{url: '{}', token_file: t/profile}}}}\n", fake.url);
    place.write(".config/cairn/config.yaml", profiles);
    for name in ["flag", "variable", "profile", "admin"] {
        place.write(&format!("t/{name}"), format!("secret-{name}\n"));
        place.write(&format!(".config/cairn/t/{name}"), format!("secret-{name}\n"));
    }
    place.write(".milestones/admin.token", "secret-admin\n");
    let url = fake.url.clone();
    let sent = |line: &str, variables: &[(&str, &str)]| {
        let mut command = place.command(&format!("agents -vvv {line}"));
        let output = command.envs(variables.iter().copied()).output().expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{err}");
        assert!(!err.contains("secret-"), "{err}");
        fake.asked().last().expect("asked").header("authorization").to_owned()
    };
    let file = ("CAIRN_TOKEN_FILE", "t/variable");
    let both = [("CAIRN_TOKEN", "secret-itself"), file];
    assert_eq!(sent("--token-file t/flag", &both), "Bearer secret-flag");
    assert_eq!(sent("", &both), "Bearer secret-itself");
    assert_eq!(sent("", &[file]), "Bearer secret-variable");
    assert_eq!(sent("", &[]), "Bearer secret-profile");
    // A token of a profile is for the coordinator of that profile; this one is on our machine.
    assert_eq!(sent(&format!("--url {url}"), &[]), "Bearer secret-admin");
    let shown =
        place.command("config show --origin --output json").env("CAIRN_TOKEN", "secret-itself").output();
    let shown = String::from_utf8(shown.expect("it runs").stdout).expect("text");
    let value: Value = serde_json::from_str(&shown).expect("a value");
    assert_eq!(value["token"]["origin"], json!({"kind": "environment", "name": "CAIRN_TOKEN"}));
    assert_eq!((&value["profile"]["value"], &value["url"]["value"]), (&json!("p"), &json!(url)));
    assert!(!shown.contains("secret-"), "{shown}");
    let ran = place.cairn("agents --token-file t/none");
    assert!(ran.code == 4 && ran.err.starts_with("error: cannot read t/none: "), "{}", ran.err);
}

#[test]
fn the_coordinator_of_the_state_directory_is_found_and_stays_on_this_machine() {
    let (place, fake) = (Place::new(), Fake::start(no_agents));
    place.write(".milestones/coordinator.url", format!("{}\n", fake.url));
    let ran = place.cairn("agents");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "note: there are no agents yet: `cairn agent` starts one\n")
    );
    // Those that only look read the directory.
    assert_eq!(place.cairn("list").code, 0);
    assert_eq!(fake.asked().len(), 1);
    place.write(".milestones/coordinator.url", "http://192.0.2.7:7420");
    let ran = place.cairn("agents");
    assert!(ran.code == 5 && ran.err.contains("names another machine"), "{}", ran.err);
    // Nor can the file of a project name one.
    place.write(".cairn.yaml", "profiles: {p: {url: 'http://192.0.2.7'}}\n");
    let ran = place.cairn("agents");
    assert!(ran.code == 2 && ran.err.contains("cannot say where coordinators are"), "{}", ran.err);
}

#[test]
fn wishes_name_the_part_and_the_reason() {
    let place = Place::new();
    let fake = Fake::start(|_| Answer::Json(200, json!({"run": "apollo.3", "status": "paused"})));
    let url = fake.url.clone();
    let mut command = place.command(&format!("pause apollo.3/build/a --url {url} --reason"));
    let output = command.arg("put off").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "apollo.3 ⏸ paused\n");
    cairn(&place, &fake, "retry apollo --task build/a --downstream").good();
    assert_eq!(cairn(&place, &fake, "cancel apollo/build --output json").json()["status"], json!("paused"));
    let asked = fake.asked();
    let said: Vec<(&str, Value)> = asked
        .iter()
        .map(|asked| (asked.line.as_str(), serde_json::from_str(&asked.body).expect("JSON")))
        .collect();
    assert_eq!(
        said,
        [
            (
                "POST /api/v1/runs/apollo.3/pause",
                json!({"reason": "put off", "milestone": "build", "task": "a"})
            ),
            ("POST /api/v1/runs/apollo/retry", json!({"task": "build/a", "downstream": true})),
            ("POST /api/v1/runs/apollo/cancel", json!({"milestone": "build"})),
        ]
    );
    assert!(asked.iter().all(|asked| !asked.header("idempotency-key").is_empty()));
    assert_eq!(cairn(&place, &fake, "pause apollo//a").code, 2);
}

#[test]
fn tokens_are_made_through_the_coordinator() {
    let place = Place::new();
    let fake = Fake::start(|asked| {
        let info = json!({"id": "5f0c", "name": "ci", "role": "submitter", "projects": ["apollo"],
                          "created_at": "2026-01-01T00:00:00.000000Z", "expires_at": null});
        match asked.line.as_str() {
            "POST /api/v1/tokens" => {
                let mut created = info;
                created["token"] = json!("cairn_abc");
                Answer::Json(201, created)
            }
            "GET /api/v1/tokens" => Answer::Json(200, json!({"tokens": [info]})),
            "DELETE /api/v1/tokens/ci%2F..%2Fx" => Answer::Json(200, info),
            other => panic!("{other}"),
        }
    });
    let ran = cairn(&place, &fake, "token create ci --role submitter --project apollo --expires 1h30m");
    assert_eq!((ran.code, ran.out.as_str()), (0, "cairn_abc\n"), "{}", ran.err);
    let wish: Value = serde_json::from_str(&fake.asked()[0].body).expect("JSON");
    let expected =
        json!({"name": "ci", "role": "submitter", "projects": ["apollo"], "expires_in_seconds": 5400});
    assert_eq!(wish, expected);
    assert_eq!(
        cairn(&place, &fake, "token list").good(),
        "ID    NAME  ROLE       PROJECTS  MADE        GOOD UNTIL\n\
         5f0c  ci    submitter  apollo    2026-01-01  for ever\n"
    );
    assert_eq!(cairn(&place, &fake, "token revoke ci/../x").good(), "ci is revoked\n");
    assert_eq!(cairn(&place, &fake, "token create ci --role king").code, 2);
}

#[test]
fn tokens_of_a_state_directory_need_no_coordinator() {
    let place = Place::new();
    std::fs::create_dir(place.state()).expect("made");
    let line = |line: &str| place.cairn(&format!("token {line} --state .milestones"));
    let token = line("create ada --role admin").good();
    assert!(token.starts_with("cairn_") && token.lines().count() == 1, "{token}");
    let listed = line("list --output json").json();
    assert_eq!(
        (&listed["tokens"][0]["name"], &listed["tokens"][0]["role"]),
        (&json!("ada"), &json!("admin"))
    );
    assert!(!listed.to_string().contains(token.trim()));
    let ran = line("create ada --role viewer");
    assert!(
        ran.code == 2 && ran.err.contains("there is a token for ada\nhelp: use another name"),
        "{}",
        ran.err
    );
    assert_eq!(line("revoke ada").good(), "ada is revoked\n");
    assert_eq!(line("revoke ada").code, 3);
    assert_eq!(place.cairn("token list").code, 5, "without --state the coordinator is asked");
}

#[test]
fn the_fleet_is_listed_and_drained() {
    let place = Place::new();
    let fake = Fake::start(|asked| match asked.line.as_str() {
        "GET /api/v1/agents" => Answer::Json(
            200,
            json!({"agents": [{
                "id": "builder-1", "state": "joined", "incarnation": 1, "version": "0.1.0", "slots": 4,
                "slots_used": 3, "resources": {"cpus": 4.0}, "labels": {"os": "linux"},
                "joined_at": "2026-01-01T00:00:00.000000Z", "heard_seconds_ago": 1.25,
                "attempts": ["apollo.3 build/a.1", "apollo.3 build/b.1", "apollo.3 build/\u{1b}[2Jc.1"]}]}),
        ),
        _ => Answer::Json(200, json!({"agent": "builder-1", "drain": asked.body.contains("true")})),
    });
    assert_eq!(
        cairn(&place, &fake, "agents").good(),
        "AGENT      STATE     SLOTS  LABELS    RUNS                                               HEARD\n\
         builder-1  ✔ joined    3/4  os=linux  apollo.3 build/a.1, apollo.3 build/b.1 and 1 more  1.3s ago\n"
    );
    assert_eq!(cairn(&place, &fake, "agents --output json").json()["agents"][0]["slots"], json!(4));
    assert_eq!(cairn(&place, &fake, "agents drain builder-1").good(), "builder-1 is given nothing new\n");
    assert_eq!(
        cairn(&place, &fake, "agents drain builder-1 --undo").good(),
        "builder-1 is given work again\n"
    );
    let lines: Vec<_> = fake.asked_for("POST").into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["POST /api/v1/agents/builder-1/drain"; 2]);
}

#[test]
fn runs_are_looked_at() {
    let place = Place::new();
    let row = |run: &str, status: &str| {
        json!({"run": run, "project": "apollo", "status": status, "interrupted": false, "progress": 0.5,
               "tasks_total": 2000, "tasks_completed": 1000, "tasks_failed": 0, "tasks_skipped": 0,
               "tasks_cancelled": 0, "milestones_total": 1, "submitted_at": "2026-01-01T00:00:00.000000Z",
               "started_at": null, "finished_at": null, "duration_seconds": 90.0, "plan": "plan.yaml"})
    };
    let fake = Fake::start(move |asked| match asked.line.split_once('?') {
        Some(("GET /api/v1/runs", query)) => {
            let is_second = query.contains("cursor=1");
            let runs =
                if is_second { vec![row("apollo.2", "active")] } else { vec![row("apollo.1", "completed")] };
            Answer::Json(200, json!({"runs": runs, "next_cursor": (!is_second).then_some("1")}))
        }
        _ => run(asked, true, "failed").expect("nothing else is asked"),
    });
    assert_eq!(
        cairn(&place, &fake, "list --project apollo").good(),
        "RUN       STATUS       PROGRESS  TASKS        SUBMITTED                DURATION\n\
         apollo.1  ✔ completed      50 %  1,000/2,000  2026-01-01 00:00:00 UTC  1m30s\n\
         apollo.2  ● active         50 %  1,000/2,000  2026-01-01 00:00:00 UTC  1m30s\n"
    );
    assert!(fake.asked().iter().all(|asked| asked.line.contains("project=apollo")));
    assert_eq!(cairn(&place, &fake, "history apollo --output json").json()["completed"], json!(1));
    assert_eq!(
        cairn(&place, &fake, "status").good(),
        "apollo.3 ✖ failed  50 %  1 of 2 tasks, 1 failed\n\
         submitted 2026-01-01 00:00:00 UTC, ended 2026-01-01 00:03:05 UTC after 3m05s\n\n  \
         ● active  build  ██████████░░░░░░░░░░  50 %  1/2\n\n  \
         ✖ failed     build/b  attempt 2  exit code 3\n  ✔ completed  build/a\n"
    );
    assert_eq!(cairn(&place, &fake, "status apollo --exit-status").code, 1);
    let value = cairn(&place, &fake, "status apollo --output json").json();
    assert_eq!((&value["of_a_later_release"], &value["tasks"][1]["attempt"]), (&json!(7), &json!(2)));
}

#[test]
fn events_come_page_by_page_and_then_as_they_happen() {
    let place = Place::new();
    let fake = Fake::start(|asked| {
        let page = |position: u64, next, has_more| json!({"events": [{"position": position, "event_type": "X"}], "next": next, "has_more": has_more});
        match asked.line.split_once('?') {
            Some((_, query)) if query.contains("follow") => {
                assert!(query.contains("from=9"), "{query}");
                Answer::Whole(Vec::new(), bytes(&[event(9, "RunCompleted", json!({})), END.to_owned()]))
            }
            Some((_, query)) if query.contains("from=3") => Answer::Json(200, page(3, 5, true)),
            _ => Answer::Json(200, page(5, 9, false)),
        }
    });
    let lines = "{\"event_type\":\"X\",\"position\":3}\n{\"event_type\":\"X\",\"position\":5}\n";
    assert_eq!(cairn(&place, &fake, "events apollo --from 3").good(), lines);
    let followed = cairn(&place, &fake, "events apollo --from 3 --follow").good();
    assert!(followed.starts_with(lines) && followed.contains("\"RunCompleted\""), "{followed}");
    assert_eq!(cairn(&place, &fake, "events").code, 2, "a coordinator has no log of all runs");
}

#[test]
fn a_log_comes_byte_by_byte_and_goes_on_where_it_broke_off() {
    let place = Place::new();
    let fake =
        Fake::start(|asked| match asked.line.split_once('?').map_or(asked.line.as_str(), |line| line.0) {
            "GET /api/v1/runs/apollo.3/tasks/build/a/logs" => {
                let attempt = vec![("cairn-attempt", "1".to_owned())];
                match (asked.line.contains("follow"), asked.before) {
                    (true, 0) => Answer::Broken(vec![b"one\ntw".to_vec()]),
                    (true, _) => Answer::Whole(attempt, vec![b"one".to_vec(), b"\ntwo\n\xff".to_vec()]),
                    (false, _) => Answer::Whole(attempt, vec![b"\xff\x00raw\r\n".to_vec()]),
                }
            }
            "GET /api/v1/runs/apollo.3/events" => Answer::Whole(Vec::new(), bytes(&[END.to_owned()])),
            _ => run(asked, false, "").expect("nothing else is asked"),
        });
    let output = |line: &str| {
        let output = place.command(&format!("{line} --url {}", fake.url)).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(output("logs apollo a"), b"\xff\x00raw\r\n");
    assert_eq!(output("logs apollo build --follow"), b"build/a | one\nbuild/a | two\nbuild/a | \xff\n");
    let ran = cairn(&place, &fake, "logs apollo build/aa");
    assert!(ran.code == 3 && ran.err.contains("did you mean `build/a`?"), "{}", ran.err);
    let value = cairn(&place, &fake, "logs apollo --output json").json();
    assert_eq!(value["logs"][0]["task"], json!("build/a"));
}

#[test]
fn the_doctor_tells_each_finding_with_its_remedy() {
    let place = Place::new();
    let fake =
        Fake::start(|asked| match asked.line.split_once('?').map_or(asked.line.as_str(), |line| line.0) {
            "GET /livez" => Answer::Json(200, json!("ok")),
            "GET /readyz" => Answer::Json(
                503,
                json!({"is_ready": false, "checks": [
                {"name": "store", "is_good": true, "message": "file"},
                {"name": "broker", "is_good": false, "message": "RabbitMQ 4.1 does not answer"}]}),
            ),
            "GET /api/v1/runs" => problem(401, "unauthenticated", "no good token"),
            "GET /api/v1/openapi.json" => Answer::Json(200, json!({"info": {"version": "0.0.9"}})),
            _ => Answer::Json(200, json!({"agents": []})),
        });
    let ran = cairn(&place, &fake, "doctor");
    assert_eq!(ran.code, 1, "{}", ran.err);
    for finding in [
        "✔ ok    state directory",
        "✔ ok    disk space",
        "! warn  clock",
        "✖ fail  token            no good token",
        "✔ ok    store            file",
        "✖ fail  broker           RabbitMQ 4.1 does not answer",
        "! warn  version          the coordinator is 0.0.9, this command",
        "! warn  agents",
        "help: agents: nothing can run: start one with `cairn agent`",
    ] {
        assert!(ran.out.contains(finding), "{finding}: {}", ran.out);
    }
    let ran = place.cairn("doctor --output json");
    let value: Value = serde_json::from_str(&ran.out).expect("one value");
    assert_eq!((ran.code, &value["healthy"]), (5, &json!(false)));
    let names = value["checks"].as_array().expect("a list").iter().map(|check| check["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["state directory", "disk space", "coordinator"]);
}
