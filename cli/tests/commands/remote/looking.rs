//! What is shown of runs and the fleet, and what is wished of them.

use super::*;

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
            "GET /metrics" => {
                Answer::Whole(Vec::new(), vec![b"cairn_build_info{version=\"0.0.9\"} 1\n".to_vec()])
            }
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
