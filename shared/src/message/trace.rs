//! The W3C trace context (<https://www.w3.org/TR/trace-context/>): which run a message, a process or a line of a log
//! belongs to, in the form that other tools read.
//!
//! A run is one trace. Its own span is the parent of the span of each attempt, which is what an attempt's process is
//! told. It is a help for people and decides nothing: whoever has none goes on without.
//!
//! Not here: spans with times, and sending them anywhere.

use bincode::{Decode, Encode};
use std::fmt;

/// Bytes of the form in text: `00-`, 32 digits, `-`, 16 digits, `-01`.
const TEXT_BYTES: usize = 55;

/// A span of a trace, and whether somebody records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// The context of a run, made of a digest of what tells it from all other runs. It is marked as recorded: that is
    /// what lets a task's own tracing go on.
    #[must_use]
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&digest[..16]);
        span.copy_from_slice(&digest[16..24]);
        // All zeros would mean that there is none.
        trace[15] |= u8::from(trace == [0; 16]);
        span[7] |= u8::from(span == [0; 8]);
        Self { trace, span, flags: 1 }
    }

    /// Reads `traceparent`. A later version is read as far as it is like this one, as the standard asks.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.as_bytes().split_at_checked(TEXT_BYTES)?;
        let &[v1, v2, b'-', ref digits @ ..] = known else { return None };
        let version = hex::<1>(&[v1, v2])?[0];
        let may_go_on = version != 0 && rest.first().is_none_or(|&byte| byte == b'-');
        if version == 0xff || !(rest.is_empty() || may_go_on) || digits[32] != b'-' || digits[49] != b'-' {
            return None;
        }
        let (trace, span) = (hex::<16>(&digits[..32])?, hex::<8>(&digits[33..49])?);
        let flags = hex::<1>(&digits[50..])?[0];
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, flags })
    }

    /// The context of an attempt of a run whose context this is: another span of the same trace, for each attempt
    /// another one, and always the same.
    #[must_use]
    pub fn of_attempt(self, task: u32, attempt: u32) -> Self {
        // The steps of SplitMix64 can each be undone, so different attempts have different spans.
        let mut bits = u64::from_be_bytes(self.span) ^ (u64::from(task) << 32 | u64::from(attempt));
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { span: (bits ^ bits >> 31).max(1).to_be_bytes(), ..self }
    }

    /// The trace's id, for logs: 32 hexadecimal digits.
    #[must_use]
    pub fn id(self) -> TraceId {
        TraceId(self.trace)
    }
}

/// As `traceparent` says it.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (span, flags) = (u64::from_be_bytes(self.span), self.flags);
        write!(formatter, "00-{}-{span:016x}-{flags:02x}", self.id())
    }
}

/// Which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Bytes of twice as many digits; the standard knows lower case only.
fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The example of the standard.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("01{}-more", &EXAMPLE[2..]);
        assert_eq!(TraceContext::parse(&later), Some(context));
    }

    #[test]
    fn what_the_standard_refuses_is_refused() {
        for wrong in [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-more"),
            &format!("ff{}", &EXAMPLE[2..]),
            &format!("01{}x", &EXAMPLE[2..]),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &EXAMPLE.replace("00f067aa0ba902b7", "0000000000000000"),
            &EXAMPLE.replace("-01", "-0é"),
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_context_is_never_of_zeros() {
        for digest in [[0; 32], [7; 32]] {
            let context = TraceContext::of_digest(&digest);
            assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        }
    }

    #[test]
    fn each_attempt_has_a_span_of_its_own_in_the_trace_of_its_run() {
        let run = TraceContext::of_digest(&[7; 32]);
        let attempts = (0..100).flat_map(|task| (1..10).map(move |attempt| run.of_attempt(task, attempt)));
        let spans: HashSet<_> = attempts.clone().map(|context| context.span).collect();
        assert_eq!(spans.len(), 900);
        assert!(attempts.clone().all(|context| context.id() == run.id() && context.span != run.span));
        assert_eq!(run.of_attempt(3, 2), run.of_attempt(3, 2));
    }
}
