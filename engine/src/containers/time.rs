//! Times as containers' files and docker's documents have them.

/// RFC 3339 in UTC with nanoseconds, as Go writes it; docker's zero for a time that never was.
#[must_use]
pub fn rfc3339(nanoseconds: u64) -> String {
    if nanoseconds == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_string()
}

/// Unix nanoseconds of a text as `--since` takes it: RFC 3339 with or without a zone, a date, Unix seconds, or how long
/// ago it was, as `10m`.
#[must_use]
pub fn parse_moment(text: &str, now: u64) -> Option<u64> {
    let positive = |nanoseconds: i128| u64::try_from(nanoseconds).ok();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return positive(time.as_nanosecond());
    }
    if let Some((seconds, fraction)) = text.split_once('.').or(Some((text, ""))) {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !seconds.is_empty() && digits(seconds) && digits(fraction) && fraction.len() <= 9 {
            let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
            return seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction);
        }
    }
    if let Some(ago) = parse_duration(text) {
        return Some(now.saturating_sub(ago));
    }
    let local = |time: jiff::civil::DateTime| jiff::tz::TimeZone::system().to_timestamp(time).ok();
    let time = text
        .parse::<jiff::civil::DateTime>()
        .ok()
        .or_else(|| Some(text.parse::<jiff::civil::Date>().ok()?.to_datetime(jiff::civil::Time::midnight())))?;
    positive(local(time)?.as_nanosecond())
}

/// Nanoseconds of a duration as Go writes it: `1h30m`, `1.5s`, `100ms`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(length);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = number.parse::<f64>().ok()? * factor;
        if !(0.0..9.2e18).contains(&part) {
            return None;
        }
        total = total.checked_add(part as u64)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        let now = 2_000_000_000_000_000_000;
        assert_eq!(parse_moment("1970-01-01T00:00:01Z", now), Some(1_000_000_000));
        assert_eq!(parse_moment("1970-01-01T02:00:01+02:00", now), Some(1_000_000_000));
        assert_eq!(parse_moment("12", now), Some(12_000_000_000));
        assert_eq!(parse_moment("12.5", now), Some(12_500_000_000));
        assert_eq!(parse_moment("1m", now), Some(now - 60_000_000_000));
        assert!(parse_moment("2020-01-02", now).is_some() && parse_moment("2020-01-02T03:04:05", now).is_some());
        for bad in ["", "yesterday", "1x", "-1"] {
            assert_eq!(parse_moment(bad, now), None, "{bad}");
        }
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(parse_duration("1h1.5s"), Some(3_601_500_000_000));
        assert_eq!(parse_duration("100ms"), Some(100_000_000));
    }
}
