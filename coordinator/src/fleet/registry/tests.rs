//! Who joins, who is lost, and when.

use super::*;

const LEASE: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp(0).plus(Duration::from_secs(seconds))
}

fn hello(incarnation: u64) -> Hello {
    Hello {
        agent: "a1".to_owned(),
        incarnation,
        protocol: (1, 1),
        version: "0.1.0".to_owned(),
        content_type: "application/json".to_owned(),
        slots: 2,
        backlog: 8,
        timers: 8,
        resources: Vec::new(),
        labels: Vec::new(),
        capability: None,
        draining: false,
    }
}

fn beat(incarnation: u64, sequence: u64) -> Heartbeat {
    Heartbeat { agent: "a1".to_owned(), incarnation, sequence, draining: false, holds: Vec::new() }
}

struct Bench {
    registry: Registry,
    actions: Vec<Action>,
}

impl Bench {
    fn new() -> Self {
        Self { registry: Registry::new("c1", Timing { lease: LEASE }, at(0)), actions: Vec::new() }
    }

    fn joined() -> Self {
        let mut bench = Self::new();
        bench.registry.hello(hello(1), at(0), &mut bench.actions);
        bench.actions.clear();
        bench
    }

    fn take(&mut self) -> Vec<&'static str> {
        self.actions.drain(..).map(|action| name(&action)).collect()
    }

    /// Lets time pass as a living coordinator does: a look every second.
    fn wait(&mut self, from: u64, to: u64) {
        for second in from..=to {
            self.registry.tick(at(second), &mut self.actions);
        }
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Say { message: ToAgent::Introduce, .. } => "introduce",
        Action::Say { message: ToAgent::Welcome(_), .. } => "welcome",
        Action::Say { message: ToAgent::HeartbeatHeard { .. }, .. } => "heard",
        Action::Say { message: ToAgent::Drain, .. } => "drain",
        Action::Say { message: ToAgent::Undrain, .. } => "undrain",
        Action::Say { .. } => "other",
        Action::Joined { .. } => "joined",
        Action::Changed { .. } => "changed",
        Action::Lost { .. } => "lost",
        Action::Refused { .. } => "refused",
    }
}

#[test]
fn who_says_hello_joins_once_and_is_welcomed_each_time() {
    let mut bench = Bench::new();
    bench.registry.hello(hello(1), at(0), &mut bench.actions);
    assert_eq!(bench.take(), ["joined", "welcome"]);
    bench.registry.hello(hello(1), at(1), &mut bench.actions);
    assert_eq!(bench.take(), ["welcome"]);
    bench.registry.hello(Hello { slots: 3, ..hello(1) }, at(1), &mut bench.actions);
    assert_eq!(bench.take(), ["changed", "welcome"]);
}

#[test]
fn silence_for_a_lease_is_loss_and_a_heartbeat_is_another_lease() {
    let mut bench = Bench::joined();
    bench.wait(1, 4);
    assert_eq!(bench.take(), [""; 0]);
    bench.wait(5, 9);
    assert_eq!(bench.take(), ["changed"]);
    assert!(!bench.registry.member("a1").unwrap().takes_work(), "it may have no lease: it would decline");
    assert!(bench.registry.heartbeat(&beat(1, 1), at(9), &mut bench.actions));
    assert_eq!(bench.take(), ["heard", "changed"], "work comes after the lease");
    assert!(bench.registry.member("a1").unwrap().takes_work());
    bench.wait(10, 18);
    assert_eq!(bench.take(), ["changed"]);
    bench.wait(19, 19);
    assert_eq!(bench.take(), ["lost"]);
    bench.wait(20, 40);
    assert_eq!(bench.take(), [""; 0], "once");
    assert!(!bench.registry.heartbeat(&beat(1, 2), at(40), &mut bench.actions));
    assert_eq!(bench.take(), ["introduce"]);
    bench.registry.hello(hello(1), at(41), &mut bench.actions);
    assert_eq!(bench.take(), ["joined", "welcome"]);
}

#[test]
fn a_later_life_waits_for_the_lease_of_the_one_before_and_an_earlier_one_is_not_answered() {
    let mut bench = Bench::joined();
    bench.registry.hello(hello(5), at(1), &mut bench.actions);
    assert_eq!(bench.take(), [""; 0], "two may have one name, and the first may run something");
    assert!(bench.registry.heartbeat(&beat(1, 1), at(2), &mut bench.actions));
    bench.take();
    bench.wait(3, 12);
    bench.registry.hello(hello(5), at(12), &mut bench.actions);
    assert_eq!(bench.take(), ["changed", "lost", "joined", "welcome"]);
    bench.registry.hello(hello(1), at(13), &mut bench.actions);
    assert!(!bench.registry.heartbeat(&beat(1, 9), at(13), &mut bench.actions));
    assert!(!bench.registry.is_current("a1", 1, &mut bench.actions));
    bench.registry.goodbye("a1", 1, &mut bench.actions);
    assert_eq!(bench.take(), [""; 0]);
    assert_eq!(bench.registry.stale(), 4);
    assert!(bench.registry.is_current("a1", 5, &mut bench.actions));
}

#[test]
fn nobody_is_lost_while_nothing_can_be_heard_and_then_all_have_a_lease() {
    let mut bench = Bench::joined();
    bench.registry.set_hearing(false, at(5));
    bench.wait(5, 100);
    assert_eq!(bench.take(), ["changed"], "it is given nothing");
    bench.registry.set_hearing(true, at(100));
    bench.wait(101, 109);
    assert_eq!(bench.take(), [""; 0]);
    bench.wait(110, 110);
    assert_eq!(bench.take(), ["lost"]);
}

#[test]
fn who_was_away_himself_blames_nobody() {
    let mut bench = Bench::joined();
    bench.wait(1, 3);
    bench.registry.tick(at(60), &mut bench.actions);
    assert_eq!(bench.take(), [""; 0]);
    bench.wait(61, 69);
    assert_eq!(bench.take(), ["changed"]);
    bench.wait(70, 70);
    assert_eq!(bench.take(), ["lost"]);
}

#[test]
fn who_is_known_from_the_log_has_a_lease_to_be_heard() {
    let mut bench = Bench::new();
    let spec = AgentSpec { id: "a1".to_owned(), incarnation: 1, ..AgentSpec::default() };
    bench.registry.expect(&spec, at(0), &mut bench.actions);
    assert_eq!(bench.take(), ["changed", "introduce"]);
    assert!(bench.registry.heartbeat(&beat(1, 1), at(1), &mut bench.actions));
    assert_eq!(bench.take(), ["introduce", "heard"], "it lives, and is still to say what it has");
    bench.registry.hello(hello(1), at(2), &mut bench.actions);
    assert_eq!(bench.take(), ["changed", "welcome"], "the same life: not a new agent");
    bench.registry.heartbeat(&beat(1, 2), at(3), &mut bench.actions);
    assert_eq!(bench.take(), ["heard"]);
}

#[test]
fn a_drain_lasts_over_hellos_and_lives() {
    let mut bench = Bench::joined();
    assert!(bench.registry.drain("a1", true, &mut bench.actions));
    assert_eq!(bench.take(), ["changed", "drain"]);
    bench.registry.hello(hello(1), at(1), &mut bench.actions);
    bench.registry.goodbye("a1", 1, &mut bench.actions);
    bench.registry.hello(hello(2), at(2), &mut bench.actions);
    assert!(bench.registry.member("a1").is_some_and(|member| member.is_drained && !member.is_lost));
    bench.take();
    assert!(bench.registry.drain("a1", false, &mut bench.actions));
    assert_eq!(bench.take(), ["changed", "undrain"]);
    assert!(!bench.registry.drain("a2", true, &mut bench.actions));
}

#[test]
fn what_cannot_be_a_name_or_speaks_otherwise_is_not_answered() {
    let mut bench = Bench::new();
    for agent in ["", "A1", "-a", "a b", "a.b", "ä", &"a".repeat(64)] {
        for _ in 0..2 {
            bench.registry.hello(Hello { agent: agent.to_owned(), ..hello(1) }, at(0), &mut bench.actions);
        }
        assert_eq!(bench.take(), ["refused"], "told once");
        bench.registry.heartbeat(
            &Heartbeat { agent: agent.to_owned(), ..beat(1, 1) },
            at(0),
            &mut bench.actions,
        );
    }
    assert_eq!(bench.take(), [""; 0]);
    let newer = Hello { protocol: (2, 3), ..hello(1) };
    bench.registry.hello(newer.clone(), at(0), &mut bench.actions);
    let Some(Action::Refused { why, .. }) = bench.actions.last() else { panic!("it speaks otherwise") };
    assert_eq!(*why, Refusal::Protocol { lowest: 2, highest: 3 });
    bench.registry.hello(newer.clone(), at(1), &mut bench.actions);
    assert_eq!(bench.take(), ["refused"]);
    assert_eq!(bench.registry.members().count(), 0);
    // It is told again once it had been let in.
    bench.registry.hello(hello(1), at(2), &mut bench.actions);
    bench.registry.hello(newer, at(3), &mut bench.actions);
    assert_eq!(bench.take(), ["joined", "welcome", "refused"]);
}

#[test]
fn what_an_agent_says_that_it_has_is_bounded() {
    let mut bench = Bench::new();
    let many = (0..1000u64).map(|number| (format!("r{number:04}"), number)).collect();
    let said = Hello {
        slots: u32::MAX,
        resources: many,
        labels: vec![("x".repeat(300), String::new())],
        ..hello(1)
    };
    bench.registry.hello(said, at(0), &mut bench.actions);
    let spec = &bench.registry.member("a1").unwrap().spec;
    assert_eq!((spec.slots, spec.resources.len(), spec.labels.len()), (MAX_SLOTS, MAX_ENTRIES, 0));
}

#[test]
fn who_said_goodbye_has_left_and_what_is_gone_is_forgotten_after_a_while() {
    let mut bench = Bench::joined();
    bench.registry.goodbye("a1", 1, &mut bench.actions);
    assert!(bench.registry.member("a1").is_some_and(|member| member.is_lost && member.has_left));
    let looks = |bench: &mut Bench, after: Duration| {
        bench.registry.tick(at(0).plus(after), &mut bench.actions);
        bench.registry.member("a1").is_some()
    };
    assert!(looks(&mut bench, LEFT_KNOWN_FOR));
    assert!(!looks(&mut bench, LEFT_KNOWN_FOR + Duration::from_secs(1)));
    let mut bench = Bench::joined();
    bench.wait(1, 11);
    assert!(bench.registry.member("a1").is_some_and(|member| member.is_lost && !member.has_left));
    assert!(looks(&mut bench, LOST_KNOWN_FOR));
    assert!(!looks(&mut bench, LOST_KNOWN_FOR + Duration::from_secs(1)));
    bench.take();
    bench.registry.hello(hello(1), at(100_000), &mut bench.actions);
    assert_eq!(bench.take(), ["joined", "welcome"], "it may come back");
}

#[test]
fn a_drain_is_remembered_of_who_comes_later_until_it_is_taken_back() {
    let mut bench = Bench::new();
    bench.registry.remember_drained(["a1".to_owned(), "no agent".to_owned()]);
    bench.registry.hello(hello(1), at(0), &mut bench.actions);
    assert!(bench.registry.member("a1").is_some_and(|member| member.is_drained));
    bench.registry.heartbeat(&beat(1, 1), at(1), &mut bench.actions);
    assert_eq!(bench.take(), ["joined", "welcome", "drain", "heard"]);
    let mut gone = Bench::new();
    gone.registry.remember_drained(["a1".to_owned()]);
    assert!(gone.registry.drain("a1", false, &mut gone.actions), "it is not there, and the wish is");
    assert!(!gone.registry.drain("a1", false, &mut gone.actions));
    gone.registry.hello(hello(1), at(0), &mut gone.actions);
    assert!(gone.registry.member("a1").is_some_and(Member::takes_work));
}
