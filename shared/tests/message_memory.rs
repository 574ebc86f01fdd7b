//! How much memory a hostile message takes while it is read. A test binary of its own: it counts all that is allocated.

use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::wire::{ToAgent, ToCoordinator};
use cairn_shared::transport::MAX_MESSAGE_BYTES;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator that counts, and hands everything to the system's")]
// SAFETY: every call goes to the system's allocator with the same arguments; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that was allocated at a time while `body` was read as a message of either side.
fn peak(codec: Codec, body: &[u8]) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    drop(decode::<ToAgent>(codec.content_type(), body));
    drop(decode::<ToCoordinator>(codec.content_type(), body));
    PEAK.load(Ordering::Relaxed) - before
}

/// Orders of a run `a`, whose list says that it has `count` orders.
fn announced(count: u64, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0xCA, 1, 1, 0, 3, 1, b'a', 1, 1, 253];
    body.extend(count.to_le_bytes());
    body.extend(rest);
    body
}

#[test]
fn a_body_takes_memory_in_proportion_to_its_length() {
    // A short body that announces a long list, or a long text: at most what 4 KiB of it could need.
    for count in [1 << 10, 1 << 13, 1 << 16, 1 << 20, 1 << 32, u64::MAX] {
        let peak = peak(Codec::Bincode, &announced(count, b""));
        assert!(peak <= 256 << 10, "{count} orders announced: {peak} bytes");
    }
    // Full bodies of what is small on the wire and large in memory.
    let empty_words = |length: usize| {
        // One offer, of task 0, attempt 1, name "", work exec, with as many empty words as there is room for.
        let mut rest = vec![0, 0, 1, 0, 1, 253];
        rest.extend((length as u64).to_le_bytes());
        rest.resize(rest.len() + length, 0);
        announced(1, &rest)
    };
    let forgets = |length: usize| announced(length as u64, &vec![5; length]);
    for length in [1 << 10, 100 << 10, MAX_MESSAGE_BYTES - 100] {
        for body in [empty_words(length), forgets(length)] {
            let peak = peak(Codec::Bincode, &body);
            println!("binary: {} bytes took {peak}", body.len());
            assert!(peak >= 8 * length, "the body was refused too early: {peak} bytes");
            assert!(peak <= 32 * length.max(4 << 10), "{} bytes took {peak}", body.len());
        }
    }
    // JSON whose members nobody asked for, wide or deep.
    for (start, piece, end) in
        [("[", "0,", "0]"), ("[", "[],", "0]"), ("{", "\"\":0,", "\"a\":0}"), ("[", "\"\",", "0]")]
    {
        let many = piece.repeat((MAX_MESSAGE_BYTES - 100) / piece.len());
        let body = format!("{{\"type\":\"drain\",\"x\":{start}{many}{end}}}");
        let peak = peak(Codec::Json, body.as_bytes());
        println!("JSON of `{piece}`: {} bytes took {peak}", body.len());
        assert!(peak <= 32 * body.len(), "{piece}: {} bytes took {peak}", body.len());
    }
}
