//! Bytes and times as people read them, in docker's words.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Decimal units with three digits: `1.23MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000 with three digits: the next unit is due before that.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or("B");
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit_name}")
}

/// What was moved, and how long that took: `1.23MB in 4.5s`.
pub(crate) fn bytes_in(count: u64, took: Duration) -> String {
    format!("{} in {}", bytes(count), duration(took))
}

/// Binary units with four digits, as docker tells memory: `1.234MiB`.
pub(crate) fn binary_bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.9995 => 3,
        value if value < 99.995 => 2,
        value if value < 999.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS.get(unit).copied().unwrap_or("B"))
}

/// A number of bytes as docker's flags take it: `512`, `10k`, `1.5GB`; units are powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    grammar::parse_size(text).map_err(|_| format!("`{text}` is no size: write it like 512MB, 10g or a number of bytes"))
}

/// Nanoseconds of a duration as docker's flags take it: `30s`, `1m30s`, `500ms`.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    engine::parse_duration(text).ok_or(format!("`{text}` is no duration: write it like 30s, 1m30s or 500ms"))
}

/// `40ms`, `1.2s`, `2m05s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds == 0 {
        return format!("{}ms", time.as_millis());
    }
    if seconds < 60 {
        return format!("{:.1}s", time.as_secs_f64());
    }
    if seconds < 3600 {
        return format!("{}m{:02}s", seconds / 60, seconds % 60);
    }
    format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60)
}

/// `2 hours ago` of an RFC 3339 time; `N/A` where there is none.
pub(crate) fn ago(created: Option<&str>) -> String {
    let Some(created) = created.and_then(|text| text.parse::<Timestamp>().ok()) else { return "N/A".to_owned() };
    let seconds = Timestamp::now().as_second().saturating_sub(created.as_second()).max(0);
    format!("{} ago", span(seconds.unsigned_abs()))
}

/// The same of Unix seconds.
pub(crate) fn ago_unix(unix: u64) -> String {
    let created = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    ago(created.map(|at| at.to_string()).as_deref())
}

/// RFC 3339 of Unix seconds.
pub(crate) fn rfc3339(unix: u64) -> String {
    let at = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    at.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// When something began, as `ps` tells it: the hour within a day, else the day.
pub(crate) fn since(unix: u64, now: u64) -> String {
    let at =
        i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = TimeZone::system().to_datetime(at);
    at.strftime(if now.saturating_sub(unix) < 86_400 { "%H:%M" } else { "%b%d" }).to_string()
}

/// A time of Unix seconds as docker's lists have it: `2026-01-02 15:04:05 +0000 UTC`.
pub(crate) fn docker_time(unix: u64) -> String {
    format!("{} +0000 UTC", rfc3339(unix).trim_end_matches('Z').replace('T', " "))
}

/// The same of what images say.
pub(crate) fn docker_time_of(created: &str) -> String {
    match created.parse::<Timestamp>() {
        Ok(time) => docker_time(u64::try_from(time.as_second()).unwrap_or(0)),
        Err(_) => created.to_owned(),
    }
}

/// `2 hours ago` of Unix milliseconds.
pub(crate) fn ago_ms(millis: u64) -> String {
    ago(Some(&time_ms(millis)))
}

/// RFC 3339 of Unix milliseconds.
pub(crate) fn time_ms(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Unix milliseconds so long ago.
pub(crate) fn before_ms(age: Duration) -> u64 {
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < MINUTE => format!("{s} seconds"),
        s if s < 2 * MINUTE => "About a minute".to_owned(),
        s if s < HOUR => format!("{} minutes", s / MINUTE),
        s if s < 2 * HOUR => "About an hour".to_owned(),
        s if s < 2 * DAY => format!("{} hours", s / HOUR),
        s if s < 14 * DAY => format!("{} days", s / DAY),
        s if s < 60 * DAY => format!("{} weeks", s / (7 * DAY)),
        s if s < 730 * DAY => format!("{} months", s / (30 * DAY)),
        s => format!("{} years", s / (365 * DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_at_most() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (999_600, "1MB"),
            (12_345_678, "12.3MB"),
            (5_000_000_000, "5GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn memory_has_binary_units_with_four_digits() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (778_240, "760KiB"),
            (25_276_510_208, "23.54GiB"),
            (1_294_336, "1.234MiB"),
            (1_048_575, "1024KiB"),
        ] {
            assert_eq!(binary_bytes(count), text);
        }
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, count) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1024),
            ("1KB", 1024),
            ("1kib", 1024),
            ("1.5m", 3 << 19),
            ("20 GB", 20 << 30),
            ("2t", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1 2", "1i", "99999999p", "ten"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_rounded_as_docker_rounds_them() {
        for (seconds, text) in [
            (5, "5 seconds"),
            (90, "About a minute"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(ago(None), "N/A");
        assert_eq!(duration(Duration::from_millis(40)), "40ms");
        assert_eq!(duration(Duration::from_millis(1250)), "1.2s");
        assert_eq!(duration(Duration::from_secs(125)), "2m05s");
    }
}
