//! Plans run on a fleet as they run on one machine.

use super::support::{Broker, Fleet, LONG};
use crate::e2e::support::check_log;

#[test]
fn a_plan_runs_on_two_agents() {
    let broker = Broker::start("");
    let fleet = Fleet::start(&broker, 2, &[]);
    fleet.place.write(
        "plan.yaml",
        "version: 1\nproject: apollo\ntasks:\n- {id: a, run: \"echo from $CAIRN_AGENT\"}\n- {id: b, run: exit 0, needs: [a]}\n",
    );
    let run = fleet.submit("plan.yaml");
    assert_eq!(run, "apollo.1");
    let status = fleet.ended(&run, LONG);
    assert_eq!(status["status"], "completed", "{}", fleet.logs());
    check_log(&fleet.events(&run), &[("main/a".to_owned(), "main/b".to_owned())], 2);
    assert!(fleet.ok(&["logs", &run, "a"]).contains("from a"));
}
