//! However a log is fed, its models are the same.

use crate::answers::answers;
use crate::fixtures::Fixture;
use crate::history::{History, Random};
use cairn_coordinator::projection::models::{Feeder, MemoryModels, ReadModels};
use std::sync::Arc;
use tokio::sync::watch;

/// Seeds of histories, and decisions of each.
const SEEDS: std::ops::Range<u64> = 1..6;
const DECISIONS: usize = 250;

/// What the models of a history answer: fed at once, in memory.
fn expected(history: &History) -> String {
    let models = Arc::new(MemoryModels::default());
    Feeder::new(models.clone(), history.reader(), history.plans()).catch_up().expect("fed");
    answers(&*models)
}

fn feed(models: &Arc<dyn ReadModels>, history: &History) -> u64 {
    Feeder::new(models.clone(), history.reader(), history.plans()).catch_up().expect("fed")
}

pub async fn the_same_events_give_the_same_answers(place: &dyn Fixture) {
    for seed in SEEDS {
        let history = History::of(seed, DECISIONS).await;
        let models = place.open();
        models.clear().expect("cleared");
        assert_eq!(feed(&models, &history), history.end(), "seed {seed}");
        assert_eq!(answers(&*models), expected(&history), "seed {seed}");
        assert_eq!(answers(&*place.open()), expected(&history), "seed {seed}, opened again");
    }
}

pub async fn what_was_fed_is_passed_over(place: &dyn Fixture) {
    let history = History::of(11, DECISIONS).await;
    let models = place.open();
    let mut feeder = Feeder::new(models.clone(), history.reader(), history.plans());
    feeder.catch_up().expect("fed");
    feeder.catch_up().expect("there is nothing more");
    feed(&models, &history);
    assert_eq!(answers(&*models), expected(&history));
}

pub async fn made_again_from_nothing_it_is_the_same(place: &dyn Fixture) {
    let history = History::of(12, DECISIONS).await;
    let models = place.open();
    let mut feeder = Feeder::new(models.clone(), history.reader(), history.plans());
    feeder.catch_up().expect("fed");
    assert_eq!(feeder.rebuild().expect("made again"), history.end());
    assert_eq!(answers(&*models), expected(&history));
    models.clear().expect("cleared");
    assert_eq!(answers(&*models), answers(&MemoryModels::default()), "nothing is left");
}

pub async fn stopped_anywhere_it_goes_on(place: &dyn Fixture) {
    for seed in SEEDS {
        let history = History::of(seed + 20, DECISIONS).await;
        let (mut random, end, mut until) = (Random::new(seed), history.end(), 0);
        place.open().clear().expect("cleared");
        while until < end {
            until += 1 + random.below(40) as u64;
            // A process that starts, and is gone.
            let reader = history.reader_until(until);
            Feeder::new(place.open(), reader, history.plans()).catch_up().expect("fed");
        }
        assert_eq!(answers(&*place.open()), expected(&history), "seed {seed}");
    }
}

pub async fn two_feeders_of_the_same_tables_count_nothing_twice(place: &dyn Fixture) {
    let mut history = History::of(31, 20).await;
    let mut feeders = [(); 2].map(|()| Feeder::new(place.open(), history.reader(), history.plans()));
    for turn in 0..60 {
        for _ in 0..5 {
            history.grow().await;
        }
        // The other one finds the tables further than it left them.
        feeders[turn % 2].catch_up().expect("fed");
    }
    std::thread::scope(|scope| {
        for feeder in &mut feeders {
            scope.spawn(move || feeder.catch_up().expect("fed"));
        }
    });
    assert_eq!(answers(&*place.open()), expected(&history));
}

pub async fn another_log_is_noticed(place: &dyn Fixture) {
    let (long, short) = (History::of(41, DECISIONS).await, History::of(42, 40).await);
    let models = place.open();
    for history in [&long, &short, &long] {
        feed(&models, history);
        assert_eq!(answers(&*models), expected(history));
    }
}

pub async fn a_log_that_grows_is_followed(place: &dyn Fixture) {
    let mut history = History::of(51, 10).await;
    let (head, heard) = watch::channel(history.end());
    let models = place.open();
    let feeder = Feeder::new(models.clone(), history.reader(), history.plans());
    let following = tokio::spawn(feeder.follow(heard));
    for _ in 0..4 {
        for _ in 0..20 {
            history.grow().await;
        }
        let end = history.end();
        head.send_replace(end);
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        while models.known().expect("known").position < end {
            assert!(tokio::time::Instant::now() < until, "it does not follow");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    drop(head);
    following.await.expect("it ends with the log");
    assert_eq!(answers(&*models), expected(&history));
}
