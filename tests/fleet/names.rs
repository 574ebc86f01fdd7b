//! Two agents of one name.

use super::support::{Fleet, LONG, Setup};
use crate::e2e::support::wait_for;

#[test]
fn a_second_agent_of_a_name_says_so_once_and_waits_until_it_is_free() {
    let mut fleet = Fleet::shared(Setup { agents: 1, ..Setup::default() });
    let second = fleet.start_agent_in(1, "elsewhere");
    second.says("an agent called a1 is already connected: choose another name with --id, or stop that one");
    // Work that goes on for as long as some tries take, done by the first.
    fleet.place.write("plan.yaml", "version: 1\nproject: apollo\ntasks:\n- {id: a, run: sleep 4}\n");
    let run = fleet.submit("plan.yaml");
    assert_eq!(fleet.ended(&run, LONG)["status"], "completed", "{}", fleet.logs());
    let complaints = |log: &str| {
        let is_complaint =
            |line: &&str| [" WARN ", " ERROR ", "lapin"].iter().any(|word| line.contains(word));
        log.lines().filter(is_complaint).count()
    };
    assert_eq!(complaints(&second.log()), 1, "{}", second.log());
    assert!(!second.log().contains("listening is interrupted"), "{}", second.log());

    let first = fleet.agents.remove(0);
    first.signal("TERM");
    assert_eq!(first.wait(), Some(0), "{}", first.log());
    second.says("it can be listened at now");
    wait_for("the second agent", || {
        let agents = fleet.json(&["agents"])?;
        (agents["agents"][0]["state"] == "joined").then_some(())
    });
}
