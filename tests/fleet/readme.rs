//! The README's three commands for a fleet, as they stand there.

use super::support::{Daemon, LONG, virtual_host};
use crate::e2e::support::{Place, root, wait_for};

/// The commands of the section on fleets, without what a comment says.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let section =
        readme.split("\n## ").find(|section| section.starts_with("Then a fleet")).expect("the section");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its block");
    block.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn the_three_commands_run_a_plan_on_a_fleet() {
    let commands = commands();
    let [export, coordinator, agent, submit] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(export.starts_with("export CAIRN_TRANSPORT=amqp://"), "{export}");
    let place = Place::new();
    let words = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    // Ports of their own, for other tests run beside this one.
    let listen = "127.0.0.1:0".to_owned();
    let environment =
        vec![("CAIRN_TRANSPORT".to_owned(), virtual_host()), ("CAIRN_LISTEN".to_owned(), listen)];
    let start = |name: &str, line: &str| Daemon::start(&place, name, &words(line), &environment);
    let coordinator = start("coordinator", coordinator);
    let url = place.path().join(".milestones/coordinator.url");
    wait_for("the coordinator", || url.exists().then_some(()));
    let agent = start("agent", agent);
    let plan = root().join("config/plans/release.yaml");
    let submit: Vec<_> = words(submit)
        .into_iter()
        .map(|word| if word.ends_with("release.yaml") { plan.to_string_lossy().into_owned() } else { word })
        .collect();
    let output = place
        .command(submit)
        .args(["--timeout", &format!("{}s", LONG.as_secs())])
        .output()
        .expect("it starts");
    let told = crate::e2e::support::told(&output);
    assert!(output.status.success(), "{told}\n{}\n{}", coordinator.log(), agent.log());
    assert!(told.contains("release.1"), "{told}");
    for daemon in [agent, coordinator] {
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    }
}
