//! Names of this crate's metrics, and the labels that are bounded here.

/// Counter: messages by `direction` (`out`: handed over, `in`: delivered to us) and `kind`: that of the
/// message, or for `in` the sort of address that it came to, for what a sender writes is no label.
pub const MESSAGES: &str = "cairn_transport_messages_total";

/// Counter: seconds during which the broker took no messages from us.
pub const BLOCKED_SECONDS: &str = "cairn_transport_blocked_seconds_total";

/// Counter: connections to the broker that were lost, or could not be made.
pub const RECONNECTS: &str = "cairn_transport_reconnects_total";

/// Tells what the metrics mean to whoever exports them.
pub fn describe() {
    metrics::describe_counter!(MESSAGES, "Messages sent and received, by direction and kind.");
    metrics::describe_counter!(BLOCKED_SECONDS, "Seconds during which the broker took no messages.");
    metrics::describe_counter!(RECONNECTS, "Connections to the broker that were lost or could not be made.");
}

pub(super) fn count_out(kind: &'static str) {
    metrics::counter!(MESSAGES, "direction" => "out", "kind" => kind).increment(1);
}

pub(super) fn count_in(from: &super::Address) {
    metrics::counter!(MESSAGES, "direction" => "in", "kind" => from.sort()).increment(1);
}

pub(super) fn count_blocked_second() {
    metrics::counter!(BLOCKED_SECONDS).increment(1);
}

pub(super) fn count_reconnect() {
    metrics::counter!(RECONNECTS).increment(1);
}
