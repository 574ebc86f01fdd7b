//! Any message at all: what is encoded is what is decoded, in both codecs.

use cairn_shared::message::codec::{Codec, WireMessage, decode, encoded_bytes};
use cairn_shared::message::wire::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::fmt::Debug;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "\\PC{0,12}", 1 => any::<String>()]
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..4)
}

fn amounts() -> impl Strategy<Value = Vec<(String, u64)>> {
    vec((text(), any::<u64>()), 0..4)
}

fn attempt() -> impl Strategy<Value = Attempt> {
    any::<(u32, u32)>().prop_map(|(task, attempt)| Attempt { task, attempt })
}

fn offer() -> impl Strategy<Value = Offer> {
    let work = prop_oneof![
        text().prop_map(|script| Work::Run { script }),
        vec(text(), 0..4).prop_map(|argv| Work::Exec { argv }),
        any::<u64>().prop_map(|micros| Work::Wait { micros }),
    ];
    let rest = (of(text()), any::<Option<u64>>(), amounts(), any::<(bool, bool)>());
    (attempt(), text(), work, pairs(), rest).prop_map(|(id, name, work, env, rest)| {
        let (working_dir, timeout_millis, resources, (needs_grant, hold)) = rest;
        let Attempt { task, attempt } = id;
        Offer { task, attempt, name, work, env, working_dir, timeout_millis, resources, needs_grant, hold }
    })
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    let order = prop_oneof![
        offer().prop_map(|offer| WireOrder::Offer(Box::new(offer))),
        attempt().prop_map(WireOrder::Grant),
        attempt().prop_map(WireOrder::Stop),
        attempt().prop_map(WireOrder::Acknowledge),
        Just(WireOrder::Recall),
        Just(WireOrder::Forget),
    ];
    let orders =
        (text(), any::<(u64, u64)>(), vec(order, 0..6)).prop_map(|(run, (epoch, incarnation), orders)| {
            ToAgent::Orders(RunOrders { run, epoch, incarnation, orders })
        });
    let welcome = (text(), any::<(u64, u16, u64, u64)>()).prop_map(|(coordinator, numbers)| {
        let (incarnation, protocol, lease_millis, heartbeat_millis) = numbers;
        ToAgent::Welcome(Welcome { incarnation, coordinator, protocol, lease_millis, heartbeat_millis })
    });
    let heard = any::<(u64, u64)>()
        .prop_map(|(incarnation, sequence)| ToAgent::HeartbeatHeard { incarnation, sequence });
    prop_oneof![4 => orders, 1 => welcome, 1 => heard, 1 => Just(ToAgent::Introduce), 1 => Just(ToAgent::Drain)]
}

fn report() -> impl Strategy<Value = WireReport> {
    let outcome =
        prop_oneof![
            Just(WireOutcome::Completed),
            (text(), text(), any::<Option<i32>>())
                .prop_map(|(kind, message, exit_code)| WireOutcome::Failed { kind, message, exit_code }),
            Just(WireOutcome::Stopped),
            Just(WireOutcome::NotStarted),
            text().prop_map(|reason| WireOutcome::Lost { reason }),
        ];
    let kind = prop_oneof![
        any::<bool>().prop_map(|awaits_grant| WireReportKind::Accepted { awaits_grant }),
        text().prop_map(|reason| WireReportKind::Declined { reason }),
        any::<i64>().prop_map(|at_micros| WireReportKind::Started { at_micros }),
        (any::<u16>(), of(text()))
            .prop_map(|(permille, message)| WireReportKind::Progress { permille, message }),
        (outcome, any::<(i64, i64)>()).prop_map(|(outcome, (started_micros, finished_micros))| {
            WireReportKind::Finished { outcome, started_micros, finished_micros }
        }),
        Just(WireReportKind::Silent),
    ];
    (attempt(), kind).prop_map(|(id, kind)| WireReport { task: id.task, attempt: id.attempt, kind })
}

fn to_coordinator() -> impl Strategy<Value = ToCoordinator> {
    let hello = (
        (text(), text(), text()),
        any::<(u64, (u16, u16), u32, u32, u32, bool)>(),
        amounts(),
        pairs(),
        of(text()),
    )
        .prop_map(|((agent, version, content_type), numbers, resources, labels, capability)| {
            let (incarnation, protocol, slots, backlog, timers, draining) = numbers;
            ToCoordinator::Hello(Hello {
                agent,
                incarnation,
                protocol,
                version,
                content_type,
                slots,
                backlog,
                timers,
                resources,
                labels,
                capability,
                draining,
            })
        });
    let held = (text(), any::<u64>(), vec(attempt(), 0..6)).prop_map(|(run, epoch, attempts)| Held {
        run,
        epoch,
        attempts,
    });
    let heartbeat = (text(), any::<(u64, u64, bool)>(), vec(held, 0..4)).prop_map(
        |(agent, (incarnation, sequence, draining), holds)| {
            ToCoordinator::Heartbeat(Heartbeat { agent, incarnation, sequence, draining, holds })
        },
    );
    let reports =
        (text(), any::<u64>(), text(), vec(report(), 0..6)).prop_map(|(agent, incarnation, run, reports)| {
            ToCoordinator::Reports(RunReports { agent, incarnation, run, reports })
        });
    let goodbye =
        (text(), any::<u64>()).prop_map(|(agent, incarnation)| ToCoordinator::Goodbye { agent, incarnation });
    let output = ((text(), text(), text()), any::<(u32, u64, bool)>(), vec(any::<u8>(), 0..40)).prop_map(
        |((agent, run, task), (attempt, offset, is_last), bytes)| {
            ToCoordinator::Output(Output { agent, run, task, attempt, offset, bytes, is_last })
        },
    );
    prop_oneof![2 => reports, 1 => hello, 1 => heartbeat, 1 => goodbye, 1 => output]
}

fn check<T: WireMessage + PartialEq + Debug>(message: &T) -> Result<(), TestCaseError> {
    for codec in [Codec::Bincode, Codec::Json] {
        let body = codec.encode(message).expect("a small message");
        let read: T = decode(codec.content_type(), &body).expect("what was encoded");
        prop_assert_eq!(&read, message);
        if codec == Codec::Bincode {
            prop_assert_eq!(encoded_bytes(message) + 4, body.len());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_coordinators_say_arrives_unchanged(message in to_agent()) {
        check(&message)?;
    }

    #[test]
    fn what_agents_say_arrives_unchanged(message in to_coordinator()) {
        check(&message)?;
    }
}
