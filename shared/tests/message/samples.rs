//! One message of each kind; together they have each kind of order, report, outcome and work.

use cairn_shared::message::wire::*;

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn orders(orders: Vec<WireOrder>) -> ToAgent {
    ToAgent::Orders(RunOrders { run: "apollo.3".to_owned(), epoch: 2, incarnation: 5, orders })
}

fn offer(task: u32, work: Work) -> WireOrder {
    WireOrder::Offer(Box::new(Offer {
        task,
        attempt: 1,
        name: format!("build/task-{task}"),
        work,
        env: vec![pair("LANG", "C"), pair("WHO", "Zoë \"Z\"")],
        working_dir: Some("src".to_owned()),
        timeout_millis: Some(90_000),
        resources: vec![("cpus".to_owned(), 1_500)],
        needs_grant: task == 0,
        hold: false,
    }))
}

/// What coordinators say, by the name of its golden file.
pub fn to_agent() -> Vec<(&'static str, ToAgent)> {
    let attempt = Attempt { task: 7, attempt: 300 };
    let welcome = Welcome {
        incarnation: u64::MAX,
        coordinator: "north-1".to_owned(),
        protocol: PROTOCOL,
        lease_millis: 10_000,
        heartbeat_millis: 2_000,
    };
    let mut bare = offer(9, Work::Exec { argv: vec!["true".to_owned()] });
    if let WireOrder::Offer(offer) = &mut bare {
        (offer.env, offer.resources, offer.working_dir, offer.timeout_millis) = (vec![], vec![], None, None);
        offer.hold = true;
    }
    vec![
        ("introduce", ToAgent::Introduce),
        ("welcome", ToAgent::Welcome(welcome)),
        ("heartbeat_heard", ToAgent::HeartbeatHeard { incarnation: 5, sequence: 70_000 }),
        (
            "orders-offers",
            orders(vec![
                offer(0, Work::Run { script: "echo \"$WHO\"\nexit 1\n".to_owned() }),
                offer(1, Work::Wait { micros: 2_500_000 }),
                bare,
            ]),
        ),
        (
            "orders-others",
            orders(vec![
                WireOrder::Grant(attempt),
                WireOrder::Stop(attempt),
                WireOrder::Acknowledge(attempt),
                WireOrder::Recall,
                WireOrder::Forget,
            ]),
        ),
        ("drain", ToAgent::Drain),
        ("undrain", ToAgent::Undrain),
    ]
}

fn finished(outcome: WireOutcome) -> WireReportKind {
    let (started_micros, finished_micros) = (1_780_000_000_000_000, 1_780_000_001_250_000);
    WireReportKind::Finished { outcome, started_micros, finished_micros }
}

fn reports(kinds: Vec<WireReportKind>) -> ToCoordinator {
    let one = |(task, kind)| WireReport { task, attempt: 2, kind };
    ToCoordinator::Reports(RunReports {
        agent: "worker-1".to_owned(),
        incarnation: 5,
        run: "apollo.3".to_owned(),
        reports: (0..).zip(kinds).map(one).collect(),
    })
}

/// What agents say, by the name of its golden file.
pub fn to_coordinator() -> Vec<(&'static str, ToCoordinator)> {
    let hello = Hello {
        agent: "worker-1".to_owned(),
        incarnation: 5,
        protocol: (1, 1),
        version: "cairn 0.1.0".to_owned(),
        content_type: "application/x-bincode;v=1".to_owned(),
        slots: 4,
        backlog: 8,
        timers: 1_000,
        resources: vec![("cpus".to_owned(), 4_000), ("memory".to_owned(), 8_589_934_592_000)],
        labels: vec![pair("os", "linux")],
        capability: Some("gpu".to_owned()),
        draining: false,
    };
    let held = Held {
        run: "apollo.3".to_owned(),
        epoch: 2,
        attempts: vec![Attempt { task: 7, attempt: 1 }, Attempt { task: 1_000_000, attempt: 3 }],
    };
    let heartbeat = Heartbeat {
        agent: "worker-1".to_owned(),
        incarnation: 5,
        sequence: 70_000,
        draining: true,
        holds: vec![held],
    };
    let output = Output {
        agent: "worker-1".to_owned(),
        run: "apollo.3".to_owned(),
        task: "build/compile".to_owned(),
        attempt: 1,
        offset: 4_096,
        bytes: vec![0x00, 0xFF, b'o', b'k'],
        is_last: true,
    };
    let failed = |message: &str, exit_code| WireOutcome::Failed {
        kind: "exit_code".to_owned(),
        message: message.to_owned(),
        exit_code,
    };
    vec![
        ("hello", ToCoordinator::Hello(hello)),
        ("heartbeat", ToCoordinator::Heartbeat(heartbeat)),
        (
            "reports-underway",
            reports(vec![
                WireReportKind::Accepted { awaits_grant: true },
                WireReportKind::Declined { reason: "draining".to_owned() },
                WireReportKind::Started { at_micros: 1_780_000_000_000_000 },
                WireReportKind::Progress { permille: 400, message: Some("half way".to_owned()) },
                WireReportKind::Progress { permille: 1_000, message: None },
            ]),
        ),
        (
            "reports-finished",
            reports(vec![
                finished(WireOutcome::Completed),
                finished(failed("exit code 2", Some(2))),
                finished(failed("no code", None)),
                finished(WireOutcome::Stopped),
                finished(WireOutcome::NotStarted),
                finished(WireOutcome::Lost { reason: "the lease ended".to_owned() }),
            ]),
        ),
        ("reports-silent", reports(vec![WireReportKind::Silent, finished(WireOutcome::Completed)])),
        ("goodbye", ToCoordinator::Goodbye { agent: "worker-1".to_owned(), incarnation: 5 }),
        ("output", ToCoordinator::Output(output)),
    ]
}
