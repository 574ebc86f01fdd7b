//! How much one client, and all of them together, may take. What a plan may be is [`cairn_shared::plan::Limits::http`].

use std::time::Duration;

/// Bytes of a body that is not a plan: a wish is a few names and a reason.
pub(super) const MAX_BODY_BYTES: usize = 64 << 10;
/// How long a body may take to arrive: 64 MiB in a minute is 9 Mbit/s.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Plans that are received and read at a time: each may take some hundred megabytes while it is read.
pub(super) const MAX_SUBMISSIONS: usize = 4;
/// Copies of a run's state at a time: that of a million tasks has about 100 MB.
pub(super) const MAX_LOOKS: usize = 4;
/// How long a request waits for its turn, or the coordinator for its own parts, before it is told to come again.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the checks of a readiness probe may take; a coordinator that is slower than that is not ready.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Requests of one token that are answered each second in the long run.
pub(super) const REQUESTS_PER_SECOND: u32 = 200;
/// Requests of one token that may come at once: a script that submits a few hundred plans is no attack.
pub(super) const REQUEST_BURST: u32 = 1_000;
/// Requests each second for what needs no token.
pub(super) const OPEN_PER_SECOND: u32 = 200;
/// Requests without a good token that are answered with 401 each second; the others with 429.
pub(super) const REFUSALS_PER_SECOND: u32 = 50;
/// Refused requests that are written to the audit stream each second; the others are only counted.
pub(super) const REFUSALS_AUDITED_PER_SECOND: u32 = 5;

/// Open streams (events, logs) of one token.
pub(super) const FOLLOWERS_PER_TOKEN: usize = 100;
/// Open streams of all tokens: each holds a connection and up to a megabyte.
pub(super) const MAX_FOLLOWERS: usize = 1_000;
/// After so much silence a stream says that it is alive, and looks whether its token still is.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Open connections; further ones are closed at once.
pub(super) const MAX_CONNECTIONS: usize = 2_048;
/// How long the head of a request may take to arrive.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what is written to it.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(60);
/// How long open requests have to end at a shutdown.
pub(super) const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Rows of a page, where the client does not say.
pub(super) const DEFAULT_PAGE: usize = 100;
/// Rows of a page at most.
pub(super) const MAX_PAGE: usize = 1_000;
/// Pages of the log (a megabyte each) that one request for a page of events reads at most; the rest is for the next.
pub(super) const MAX_LOG_PAGES: usize = 64;
/// Bytes of a log that are read at a time.
pub(super) const LOG_BLOCK_BYTES: usize = 64 << 10;
/// Lines that `tail` may ask for.
pub(super) const MAX_TAIL_LINES: usize = 1_000_000;
/// How often a log that is followed is looked at.
pub(super) const LOG_POLL: Duration = Duration::from_millis(200);
/// How long after the end of an attempt the rest of its output is waited for, if its end does not come.
pub(super) const LOG_GRACE: Duration = Duration::from_secs(10);
/// How long after the end of an attempt a log that is not followed waits for the rest: output is some hundredths of a
/// second behind the end, and where an agent or its broker is gone no end comes.
pub(super) const LOG_SETTLES: Duration = Duration::from_secs(1);

/// Characters of a reason.
pub(super) const MAX_REASON_CHARS: usize = 1_000;
/// Bytes of an idempotency key.
pub(super) const MAX_KEY_BYTES: usize = 200;
/// Answers to writes with a key that are kept: a few hundred bytes each.
pub(super) const MAX_REPLAYS: usize = 10_000;
/// Bytes of the name of a plan.
pub(super) const MAX_NAME_BYTES: usize = 200;
/// Parameters of a submission.
pub(super) const MAX_PARAMETERS: usize = 1_000;
/// Bytes of a request's path that the audit stream keeps.
pub(super) const MAX_AUDITED_PATH_BYTES: usize = 256;
