//! A broker behind TLS whose certificate only `transport_authority` vouches for.

use super::support::{Fleet, LONG, Setup, shared_broker, virtual_host};
use crate::e2e::support::{Place, told};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Makes a certificate for 127.0.0.1 in `directory`, and has the shared broker listen with it: the port.
fn listen(directory: &Path) -> u16 {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=cairn test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "broker.pem"])
        .current_dir(directory)
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{}", told(&made));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let place = directory.display();
    let listening = shared_broker().ctl(&[
        "eval",
        &format!(
            "{{ok, _}} = application:ensure_all_started(ssl), rabbit_networking:start_ssl_listener(\
             {{\"127.0.0.1\", {port}}}, [{{certfile, \"{place}/broker.pem\"}}, {{keyfile, \"{place}/key.pem\"}}], 2)."
        ),
    ]);
    assert_eq!(listening.trim(), "ok");
    port
}

#[test]
fn a_fleet_trusts_the_authority_that_it_is_told_and_no_other() {
    let certificates = Place::new();
    let port = listen(certificates.path());
    let plain = virtual_host();
    let (user, rest) = plain.split_once('@').expect("amqp://USER@HOST/VHOST");
    let vhost = rest.split_once('/').expect("amqp://USER@HOST/VHOST").1;
    let url = format!("{}@127.0.0.1:{port}/{vhost}", user.replace("amqp://", "amqps://"));
    let authority = certificates.path().join("broker.pem").display().to_string();
    let variables = [("CAIRN_TRANSPORT_AUTHORITY", authority.as_str())];
    let setup = Setup { agents: 1, coordinator: &variables, agent: &variables, ..Setup::default() };
    let fleet = Fleet::over(&url, setup);
    fleet.place.write("plan.yaml", "version: 1\nproject: apollo\ntasks:\n- {id: a, run: exit 0}\n");
    let run = fleet.submit("plan.yaml");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let doctor = fleet.ok(&["doctor"]);
    assert!(doctor.contains("RabbitMQ"), "it is told of the broker: {doctor}");

    // The other way about: who is not told does not trust it.
    let args = ["agent", "--transport", &url, "--id", "stranger", "--state", "stranger", "--listen", ""];
    let stranger = super::support::Daemon::start(&fleet.place, "stranger", &args, &Vec::new());
    stranger.says("no TLS with 127.0.0.1");
}

#[test]
fn an_authority_that_cannot_be_used_is_a_mistake_of_the_configuration() {
    let place = Place::new();
    place.write("empty.pem", "no certificate\n");
    for (file, why) in [
        ("missing.pem", "cannot read missing.pem: No such file"),
        ("empty.pem", "empty.pem holds no certificate"),
    ] {
        for daemon in ["coordinator", "agent"] {
            let output = place
                .command([daemon, "--transport", "amqps://cairn:secret@127.0.0.1:1"])
                .env("CAIRN_TRANSPORT_AUTHORITY", file)
                .env("CAIRN_LISTEN", "127.0.0.1:0")
                .output()
                .expect("the binary starts");
            let said = told(&output);
            assert_eq!(output.status.code(), Some(2), "{daemon}: {said}");
            assert!(said.contains(why) && said.contains("transport_authority"), "{daemon}: {said}");
        }
    }
}
