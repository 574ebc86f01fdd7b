//! Durations, sizes and amounts as people write them. Pure functions from text; an error says what to write.

use std::time::Duration;

/// The longest duration of a plan: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(3_650 * 86_400);
/// The largest amount of a resource, in thousandths: as much memory as 8 PiB.
pub const MAX_AMOUNT_THOUSANDTHS: u64 = (8 << 50) * 1_000;

/// Why a text is not what it should be; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub message: &'static str,
    pub help: String,
}

fn misfit(message: &'static str, help: impl Into<String>) -> Misfit {
    Misfit { message, help: help.into() }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Units from large to small, with their nanoseconds.
const UNITS: [(&str, u128); 5] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", NANOS_PER_SECOND / 1_000),
];
/// What a duration looks like, for messages.
const DURATION_FORM: &str =
    "write a number and a unit of `d h m s ms`, like `90s`, `10m`, `1h30m`, `2d` or `500ms`";

/// Reads `90s`, `10m`, `1h30m`, `2d`, `500ms`, `1.5s`: numbers with units, each unit once, large ones first.
pub(crate) fn duration(text: &str) -> Result<Duration, Misfit> {
    let not_one = || misfit("this is not a duration", DURATION_FORM);
    if text.starts_with('-') {
        return Err(misfit("a duration cannot be negative", DURATION_FORM));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let help = format!("write `{text}s` if seconds are meant, `{text}m` for minutes");
        return Err(misfit("this duration has no unit", help));
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(not_one)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, unit_nanos) = units.find(|(name, _)| *name == unit).ok_or_else(not_one)?;
        if number.contains('.') && !after.is_empty() {
            return Err(misfit("only the last number of a duration may have decimals", DURATION_FORM));
        }
        let amount = decimal(number, 9).ok_or_else(not_one)?;
        nanos += u128::from(amount) * unit_nanos / NANOS_PER_SECOND;
        rest = after;
    }
    if text.is_empty() {
        return Err(not_one());
    }
    if nanos > MAX_DURATION.as_nanos() {
        return Err(misfit("this duration is too long", "the longest is ten years, `3650d`"));
    }
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// A decimal number times `10^places`, if it has no more decimals than that and fits.
fn decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // Zeros at the end say nothing.
    let fraction = fraction.trim_end_matches('0');
    let missing = places.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(10_u64.checked_pow(places)?)?
        .checked_add(fraction.checked_mul(10_u64.checked_pow(missing)?)?)
}

/// Units of size with their bytes.
const SIZES: [(&str, u64); 11] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads an amount of the resource `name`, in thousandths: `2`, `0.5`, and for all but `cpus` `512MiB`, `1GB`.
pub(crate) fn amount(name: &str, text: &str) -> Result<u64, Misfit> {
    let is_memory = name == cairn_model::plan::MEMORY;
    let is_cpus = name == cairn_model::plan::CPUS;
    let form = || -> String {
        let form = match (is_memory, is_cpus) {
            (true, _) => "write a size like `512MiB`, `2GiB` or `1GB`, or a number of bytes",
            (_, true) => "write a number of cores like `2` or `0.5`",
            _ => "write a number like `1` or `0.5`, or a size like `2GiB`",
        };
        form.to_string()
    };
    if text.starts_with('-') {
        return Err(misfit("an amount cannot be negative", form()));
    }
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.trim_start();
    let not_one = || misfit("this is not an amount", form());
    let bytes = match unit {
        "" => 1,
        "m" if is_cpus => {
            return Err(misfit("`m` is not a unit here", "write thousandths as `0.5`, not `500m`"));
        }
        _ if is_cpus => return Err(not_one()),
        _ => match SIZES.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None => return Err(unknown_size(number, unit).unwrap_or_else(not_one)),
        },
    };
    let has_fraction = number.contains('.');
    if is_memory && unit.is_empty() && has_fraction {
        return Err(misfit("there are no parts of a byte", form()));
    }
    // A millionth of a unit of size is finer than anyone means.
    let millionths = decimal(number, 6).ok_or_else(not_one)?;
    let thousandths = u128::from(millionths) * u128::from(bytes) / 1_000;
    if bytes == 1 && !millionths.is_multiple_of(1_000) {
        return Err(misfit("an amount has at most three decimals", form()));
    }
    match u64::try_from(thousandths) {
        Ok(amount) if amount <= MAX_AMOUNT_THOUSANDTHS => Ok(amount),
        _ => Err(misfit("this amount is too large", "the largest is 8,192 TiB, or as many of anything else")),
    }
}

/// Sizes as other systems write them: `512M`, `2Gi`, `1gb`.
fn unknown_size(number: &str, unit: &str) -> Option<Misfit> {
    let prefix = unit.chars().next()?.to_ascii_uppercase();
    let is_size = matches!(prefix, 'K' | 'M' | 'G' | 'T') && unit.len() <= 3;
    is_size.then(|| {
        let help = format!("write `{number}{prefix}iB` (1024) or `{number}{prefix}B` (1000)");
        misfit("this is not a unit of size", help)
    })
}

/// A whole number of YAML's core schema, in decimal.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// A number from 0 to 1 in thousandths.
pub(crate) fn permille(text: &str) -> Option<u16> {
    let thousandths = decimal(text, 3)?;
    (thousandths <= 1_000).then(|| u16::try_from(thousandths).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        let millis = |text: &str| duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1m0.25s", 60_250),
            ("0s", 0),
            ("1d2h3m4s5ms", 93_784_005),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for bad in [
            "", "s", "5", "5.5", "5 s", "1s1h", "1s1s", "1.5h30m", "-5s", "5w", "1.s", ".5s", "3651d", "é",
            "5é",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(
            duration("90").expect_err("no unit").help,
            "write `90s` if seconds are meant, `90m` for minutes"
        );
    }

    #[test]
    fn amounts_are_read_in_thousandths() {
        for (name, text, expected) in [
            ("cpus", "2", 2_000),
            ("cpus", "0.5", 500),
            ("cpus", "0.125000", 125),
            ("memory", "2GiB", (2 << 30) * 1_000),
            ("memory", "512MiB", (512 << 20) * 1_000),
            ("memory", "1GB", 1_000_000_000_000),
            ("memory", "1.5KiB", 1_536_000),
            ("memory", "1024", 1_024_000),
            ("memory", "1 GB", 1_000_000_000_000),
            ("gpu", "1", 1_000),
            ("disk", "1KiB", 1_024_000),
        ] {
            assert_eq!(amount(name, text), Ok(expected), "{name}: {text}");
        }
        for (name, bad) in [
            ("cpus", "2GiB"),
            ("cpus", "500m"),
            ("cpus", "-1"),
            ("cpus", "0.0001"),
            ("cpus", ""),
            ("cpus", "many"),
            ("memory", "2G"),
            ("memory", "1.5"),
            ("memory", "99999999999TiB"),
            ("memory", "GiB"),
            ("gpu", "1e3"),
        ] {
            assert!(amount(name, bad).is_err(), "{name}: {bad}");
        }
        assert_eq!(
            amount("memory", "512Mi").expect_err("k8s").help,
            "write `512MiB` (1024) or `512MB` (1000)"
        );
    }

    #[test]
    fn small_numbers_are_read() {
        assert_eq!(integer("-12"), Some(-12));
        assert_eq!(integer("1.0"), None);
        assert_eq!(integer("99999999999999999999"), None);
        assert_eq!(permille("0.2"), Some(200));
        assert_eq!(permille("1"), Some(1_000));
        assert_eq!(permille("1.001"), None);
        assert_eq!(permille("0.0001"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9.dhmsKMGTiB -]{0,40}|\\PC{0,20}") {
            let _ = duration(&text);
            let _ = amount("memory", &text);
            let _ = amount("cpus", &text);
            let _ = permille(&text);
            let _ = integer(&text);
        }

        #[test]
        fn durations_add_up(days in 0_u64..1_000, hours in 0_u64..24, minutes in 0_u64..60, millis in 0_u64..60_000) {
            let text = format!("{days}d{hours}h{minutes}m{}.{:03}s", millis / 1_000, millis % 1_000);
            let expected = Duration::from_millis(((days * 24 + hours) * 60 + minutes) * 60_000 + millis);
            prop_assert_eq!(duration(&text), Ok(expected));
        }
    }
}
