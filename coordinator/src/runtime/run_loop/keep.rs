//! Keeps snapshots of the run, beside the loop.

use super::RunLoop;
use crate::runtime::snapshot;

impl RunLoop {
    /// Takes a snapshot if it is time. To be called when all that was decided is durable. It is saved beside the
    /// loop, and may fail: the log has all of it.
    pub(super) fn keep_snapshot(&mut self) {
        let is_saving = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if is_saving || self.since_snapshot < snapshot::pace(&self.state) {
            return;
        }
        self.since_snapshot = 0;
        let versions = self.encoder.versions();
        let Some(snapshot) = snapshot::take(&self.state, &self.config.plan_hash, versions, self.position)
        else {
            return;
        };
        let store = self.config.store.clone();
        self.saving = Some(tokio::spawn(async move {
            if let Err(error) = store.save_snapshot(snapshot).await {
                tracing::warn!(%error, "a snapshot was not kept");
            }
        }));
    }

    /// Waits for the snapshot that is being saved, and keeps the last one of a long run.
    pub(super) async fn finish_snapshots(&mut self) {
        for _ in 0..2 {
            if let Some(saving) = self.saving.take() {
                // A panic of the task was reported where it happened.
                let _ = saving.await;
            }
            self.keep_snapshot();
        }
    }
}
