//! Leases: one holder at a time, and an epoch that rises with each change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_coordinator::store::{Claim, Lease, LeaseError, Leases};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;

use super::LeaseFixture;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
/// Soon over.
const SHORT: Duration = Duration::from_millis(50);
/// How long is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn held(leases: &Arc<dyn Leases>, name: &str, holder: &str, ttl: Duration) -> Lease {
    match leases.claim(name, holder, ttl).await.unwrap() {
        Claim::Held(lease) => lease,
        Claim::Taken(lease) => panic!("{lease:?}"),
    }
}

async fn taken(leases: &Arc<dyn Leases>, name: &str, holder: &str) -> Lease {
    match leases.claim(name, holder, LONG).await.unwrap() {
        Claim::Taken(lease) => lease,
        Claim::Held(lease) => panic!("{lease:?}"),
    }
}

/// Claims until it is free.
async fn held_in_time(leases: &Arc<dyn Leases>, name: &str, holder: &str) -> Lease {
    let clock = Clock::start(Timestamp(0));
    let until = clock.now().plus(PATIENCE);
    loop {
        match leases.claim(name, holder, LONG).await.unwrap() {
            Claim::Held(lease) => return lease,
            Claim::Taken(_) => assert!(clock.now() < until, "it never ran out"),
        }
    }
}

pub async fn a_lease_has_one_holder(fixture: &impl LeaseFixture) {
    let (one, other) = (fixture.open_leases(), fixture.open_leases());
    let lease = held(&one, "apollo.3", "a", LONG).await;
    assert_eq!(lease, Lease { name: "apollo.3".into(), holder: "a".into(), epoch: 1, ttl: LONG });
    let seen = taken(&other, "apollo.3", "b").await;
    assert_eq!((seen.holder.as_str(), seen.epoch), ("a", 1));
    assert!(seen.ttl <= LONG && seen.ttl > LONG / 2, "{:?}", seen.ttl);
    // Another name is another lease.
    assert_eq!(held(&other, "apollo.4", "b", LONG).await.epoch, 1);
}

pub async fn of_those_who_claim_at_once_one_gets_it(fixture: &impl LeaseFixture) {
    let stores: Vec<_> = (0..4).map(|_| fixture.open_leases()).collect();
    for round in 0..10 {
        let name = format!("lease-{round}");
        let holders: Vec<String> = (0..8).map(|holder| format!("h{holder}")).collect();
        let claims = holders.iter().enumerate().map(|(at, holder)| stores[at % 4].claim(&name, holder, LONG));
        let claims = futures_util::future::join_all(claims).await;
        let mut holding = BTreeSet::new();
        let mut won = 0;
        for claim in claims {
            let (Claim::Held(lease) | Claim::Taken(lease)) = claim.as_ref().unwrap();
            holding.insert((lease.holder.clone(), lease.epoch));
            won += usize::from(matches!(claim, Ok(Claim::Held(_))));
        }
        assert_eq!((won, holding.len()), (1, 1), "{holding:?}");
    }
}

pub async fn a_lease_that_ran_out_may_be_claimed(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let old = held(&leases, "s", "a", SHORT).await;
    let new = held_in_time(&leases, "s", "b").await;
    assert!(new.epoch > old.epoch);
    assert_eq!(taken(&leases, "s", "a").await.holder, "b");
}

pub async fn a_renewed_lease_lasts(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let lease = held(&leases, "s", "a", PATIENCE).await;
    let renewed = leases.renew(&lease, LONG).await.unwrap();
    assert_eq!(renewed, Lease { ttl: LONG, ..lease });
    assert!(taken(&leases, "s", "b").await.ttl > PATIENCE);
}

pub async fn a_lost_lease_is_not_renewed(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let old = held(&leases, "s", "a", SHORT).await;
    let new = held_in_time(&leases, "s", "b").await;
    let error = leases.renew(&old, LONG).await.unwrap_err();
    assert!(matches!(error, LeaseError::Lost { epoch, .. } if epoch == old.epoch), "{error}");
    // Giving back what is lost takes it from nobody.
    leases.release(&old).await.unwrap();
    assert_eq!(leases.renew(&new, LONG).await.unwrap().epoch, new.epoch);
    let never = Lease { name: "never".into(), ..new };
    assert!(matches!(leases.renew(&never, LONG).await, Err(LeaseError::Lost { .. })));
}

pub async fn a_lease_given_back_is_free(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let first = held(&leases, "s", "a", LONG).await;
    leases.release(&first).await.unwrap();
    leases.release(&first).await.unwrap();
    assert!(matches!(leases.renew(&first, LONG).await, Err(LeaseError::Lost { .. })));
    let second = held(&leases, "s", "b", LONG).await;
    leases.release(&second).await.unwrap();
    let third = held(&leases, "s", "b", LONG).await;
    assert!(first.epoch < second.epoch && second.epoch < third.epoch);
}

pub async fn who_holds_it_may_claim_it_again(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let first = held(&leases, "s", "a", PATIENCE).await;
    let again = held(&leases, "s", "a", LONG).await;
    assert_eq!(again.epoch, first.epoch);
    assert!(taken(&leases, "s", "b").await.ttl > PATIENCE);
}

pub async fn what_no_lease_can_be_is_refused(fixture: &impl LeaseFixture) {
    let leases = fixture.open_leases();
    let long = "x".repeat(513);
    let day = Duration::from_secs(24 * 60 * 60);
    let bad =
        [("", "a", LONG), ("s", "", LONG), ("a\0b", "a", LONG), (&*long, "a", LONG), ("s", "a", 2 * day)];
    for (name, holder, ttl) in bad {
        let error = leases.claim(name, holder, ttl).await.unwrap_err();
        assert!(matches!(error, LeaseError::Invalid), "{error}");
    }
}
