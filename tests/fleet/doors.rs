//! Who is let in, and who is told what: addresses, tokens, answers that nobody can read.

use super::support::Daemon;
use crate::e2e::support::{Place, told, wait_for};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

const CONFIG: &str = "state: state\nslots: 1\n";

/// A coordinator by itself, and its state directory.
fn start(args: &[&str]) -> (Place, Daemon) {
    let place = Place::new();
    place.write("coordinator.yaml", CONFIG);
    place.write("plan.yaml", "version: 1\nproject: apollo\ntasks: [{id: a, run: exit 0}]\n");
    let args = [&["coordinator", "--config", "coordinator.yaml"], args].concat();
    let daemon = Daemon::start(&place, "coordinator", &args, &Vec::new());
    let url = place.path().join("state/coordinator.url");
    wait_for("the coordinator", || url.exists().then_some(()));
    (place, daemon)
}

/// What a command says to a coordinator that is not one: the request's head, and how the command ends.
fn overheard(place: &Place) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let hearing = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it calls");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("it speaks") > 0 {
            head.push(byte[0]);
        }
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("it listens");
        String::from_utf8(head).expect("UTF-8").to_lowercase()
    });
    let output = place.command(["list", "--url", &url, "--state", "state"]).output().expect("it starts");
    assert!(!output.status.success(), "{}", told(&output));
    hearing.join().expect("it heard")
}

#[test]
fn the_token_of_a_state_directory_goes_to_its_own_coordinator_only() {
    let (place, daemon) = start(&["--listen", "127.0.0.1:0"]);
    let url = place.read("state/coordinator.url");
    place.ok(["list", "--state", "state"]);
    place.ok(["list", "--state", "state", "--url", url.trim()]);
    // The same one by another name of this machine.
    place.ok(["list", "--state", "state", "--url", &url.trim().replace("127.0.0.1", "localhost")]);
    let heard = overheard(&place);
    assert!(heard.starts_with("get /api/v1/runs") && !heard.contains("authorization"), "{heard}");
    drop(daemon);
}

#[test]
fn a_coordinator_that_answers_everywhere_is_found_on_this_machine() {
    let place = Place::new();
    let refused = place.command(["coordinator", "--state", "state", "--listen", "0.0.0.0:0"]).output();
    let refused = refused.expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    assert!(told(&refused).contains("insecure"), "{}", told(&refused));
    let (place, daemon) = start(&["--listen", "0.0.0.0:0", "--insecure"]);
    let url = place.read("state/coordinator.url");
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    place.ok(["submit", "plan.yaml", "--wait", "--state", "state"]);
    drop(daemon);
}

#[test]
fn a_run_whose_name_cannot_be_printed_is_told_on_stderr() {
    let (place, daemon) = start(&["--listen", "127.0.0.1:0"]);
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let output = place.command(["submit", "plan.yaml", "--state", "state"]).stdout(full).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to stdout") && said.contains("submitted, as apollo.1"), "{said}");
    drop(daemon);
}
