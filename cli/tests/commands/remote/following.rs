//! Submitting plans, and following runs to their end.

use super::*;
use std::io::Read as _;
use std::process::Stdio;

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
