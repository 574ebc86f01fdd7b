//! What the system knows of this process, under the names that Prometheus' own clients use. What cannot be read is
//! left out.

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fmt::Write as _;
use std::fs;

/// Appends the metrics of the process in the text format.
pub(super) fn write(out: &mut String) {
    let mut put = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    };
    let stat = Stat::read();
    let of = |value: fn(&Stat) -> f64| stat.as_ref().map(value);
    put(
        "process_cpu_seconds_total",
        "counter",
        "Processor time used, in seconds.",
        of(|stat| stat.cpu_seconds),
    );
    put(
        "process_resident_memory_bytes",
        "gauge",
        "Memory that is in RAM, in bytes.",
        of(|stat| stat.resident_bytes),
    );
    put("process_virtual_memory_bytes", "gauge", "Address space, in bytes.", of(|stat| stat.virtual_bytes));
    put("process_threads", "gauge", "Threads.", of(|stat| stat.threads));
    put(
        "process_start_time_seconds",
        "gauge",
        "When the process started, in seconds since 1970.",
        stat.as_ref().and_then(|stat| Some(boot_time()? + stat.started_seconds)),
    );
    // Reading the directory opens it.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    put("process_open_fds", "gauge", "Open file descriptors.", open);
    let most = getrlimit(Resource::Nofile).current.map(|most| most as f64);
    put("process_max_fds", "gauge", "File descriptors that may be open.", most);
}

/// Fields of `/proc/self/stat` (proc(5)).
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    /// Since the machine started.
    started_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program is in parentheses, and may hold spaces and parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first field after the name is number 3.
        let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
        let ticks = clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            started_seconds: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size() as f64,
        })
    }
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_hides_nothing() {
        let rest = "S 1 1 1 0 -1 4194560 1 1 1 1 250 50 0 0 20 0 7 0 12345 8192 3 18446744073709551615";
        let stat = Stat::parse(&format!("42 (a) (b c) {rest}")).expect("fields");
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!((stat.cpu_seconds, stat.threads, stat.virtual_bytes), (300.0 / ticks, 7.0, 8_192.0));
        assert_eq!((stat.started_seconds, stat.resident_bytes), (12_345.0 / ticks, 3.0 * page_size() as f64));
        assert!(Stat::parse("42 (x) S 1").is_none());
    }
}
