//! What every kind of read model promises, as cases that each implementation runs: in memory, SQLite, PostgreSQL.

mod answers;
mod feeding;
mod fixtures;
mod history;
mod meaning;

use fixtures::{Fixture, InMemory};

macro_rules! suite {
    ($name:ident, $fixture:ident) => {
        mod $name {
            use super::*;

            suite!(@cases $fixture feeding:
                the_same_events_give_the_same_answers
                what_was_fed_is_passed_over
                made_again_from_nothing_it_is_the_same
                stopped_anywhere_it_goes_on
                two_feeders_of_the_same_tables_count_nothing_twice
                another_log_is_noticed
                a_log_that_grows_is_followed
            );
            suite!(@cases $fixture meaning:
                rows_say_what_the_engine_says
                a_small_history_by_hand
            );
        }
    };
    (@cases $fixture:ident $module:ident: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                if !$fixture::is_available() {
                    return;
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on($module::$case(&$fixture::new()));
            }
        )*
    };
}

suite!(memory, InMemory);
