//! A broker's own limits do not bound what tasks may take.

use super::support::{Broker, Fleet, Setup, check_executions};
use crate::e2e::support::check_log;
use std::time::Duration;

/// The broker looks for late consumers once a minute: this is beyond the limit at two of its looks.
const TASK_SECONDS: u64 = 140;

#[test]
fn a_task_may_be_longer_than_the_brokers_patience_with_consumers() {
    let broker = Broker::start("consumer_timeout = 60000");
    let fleet = Fleet::over(&broker.url(), Setup { agents: 1, ..Setup::default() });
    let plan = format!(
        "version: 1\nproject: long\ntasks:\n- {{id: t, run: 'sleep {TASK_SECONDS}; echo t.$CAIRN_ATTEMPT >> done.txt'}}\n"
    );
    fleet.place.write("plan.yaml", &plan);
    let run = fleet.submit("plan.yaml");
    let status = fleet.ended(&run, Duration::from_secs(TASK_SECONDS + 60));
    assert_eq!(status["status"], "completed", "{status}\n{}", fleet.logs());
    check_log(&fleet.events(&run), &[], 1);
    check_executions(&fleet, &fleet.events(&run), 1);
    assert_eq!(fleet.place.read("done.txt"), "t.1\n", "it ran once");
    for log in [fleet.coordinator.log(), fleet.agents[0].log()] {
        let troubles: Vec<_> =
            log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
        assert!(troubles.is_empty(), "{troubles:#?}");
    }
    assert!(!broker.log().contains("timeout"), "no channel was closed");
}
