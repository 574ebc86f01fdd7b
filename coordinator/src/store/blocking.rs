//! Work that waits for a disk, away from the threads that must not wait.

/// Runs `work` on a thread that may block. A panic in it goes on in the caller.
pub(super) async fn blocking<T, E>(
    shutting_down: E,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(shutting_down),
        },
    }
}
