//! Whom is spoken to, with which token, and what is said when that fails.

use super::*;

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
    // A token of a profile is for the coordinator of that profile, the administrator's for the one that
    // serves this state directory, on whatever address of this machine.
    assert_eq!(sent(&format!("--url {url}"), &[]), "");
    place.write(".milestones/coordinator.url", format!("{url}\n"));
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
