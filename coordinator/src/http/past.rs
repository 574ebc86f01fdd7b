//! Runs as they were, read from the store beside those who write to it.

use super::context::{Api, in_time};
use super::problem::{Problem, ProblemKind};
use crate::projection::{At, PastError, load_at};
use crate::runtime::{LoadError, LoadedRun};
use crate::service::WishError;
use crate::store::StoreView;
use cairn_engine::State;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

impl Api {
    /// A run as it was, the position of the last event that counted, and the right to hold a copy.
    pub(super) async fn past(
        &self,
        run: &str,
        at: At,
    ) -> Result<(State, u64, OwnedSemaphorePermit), Problem> {
        let permit = in_time(async {
            let permit = self.looks.clone().acquire_owned().await;
            permit.map_err(|_| Problem::unavailable("the coordinator is ending"))
        });
        let permit = permit.await?;
        let view = StoreView::new(self.parts.store.clone(), Handle::current());
        let (state_directory, name) = (self.parts.state_directory.clone(), run.to_owned());
        // The thread holds the permit: it goes on reading when nobody waits any more.
        let loaded = tokio::task::spawn_blocking(move || {
            load_at(&state_directory, &view, &name, at).map(|loaded| (loaded, permit))
        });
        let (loaded, permit) =
            loaded.await.map_err(|_| Problem::internal())?.map_err(|error| told(run, error))?;
        let LoadedRun { state, position, .. } = loaded;
        Ok((state, position, permit))
    }

    /// Looks at a run as it is, or as it was: only for what is quick.
    pub(super) async fn look_at<T: Send + 'static>(
        &self,
        run: &str,
        at: Option<At>,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        match at {
            None => self.look(run, look).await,
            Some(at) => {
                let (state, _, _permit) = self.past(run, at).await?;
                Ok(look(&state))
            }
        }
    }
}

fn told(run: &str, error: PastError) -> Problem {
    match error {
        PastError::NotYet { position, .. } => {
            let help = format!("ask for it at position {position} or later");
            Problem::new(ProblemKind::RunNotFound, error.to_string(), help)
        }
        PastError::Load(LoadError::NoSuchRun { run }) => Problem::no_such_run(&run),
        PastError::Load(error) => {
            WishError::Unreadable { run: run.to_owned(), reason: error.to_string() }.into()
        }
    }
}
