//! Values inside instructions: ports, durations, signals, sources on the network.

use std::time::Duration;

/// A value that breaks its rules, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

/// Most ports that one range may have.
const PORTS: u32 = 65_535;

/// `80`, `80/udp`, `8000-8010`, `ip:host:80`: the container's ports, as `80/tcp`.
///
/// # Errors
/// When a number or a protocol is none.
pub fn parse_port_spec(text: &str) -> Result<Vec<String>, ValueError> {
    let bad = |why: String| ValueError(format!("invalid port: \"{text}\": {why}"));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad(format!("invalid proto: {protocol}")));
    }
    let container = numbers.rsplit(':').next().unwrap_or(numbers);
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| (1..=PORTS).contains(port));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(bad(format!("invalid containerPort: {container}"))),
    }
}

/// A signal's name or number.
///
/// # Errors
/// When it is none.
pub fn parse_signal(text: &str) -> Result<(), ValueError> {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    let bad = || ValueError(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<u32>() {
        return if (1..=64).contains(&number) { Ok(()) } else { Err(bad()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    let known = NAMES.contains(&name)
        || real_time
            .is_some_and(|rest| rest.is_empty() || rest.get(1..).is_some_and(|number| number.parse::<u32>().is_ok()));
    if known { Ok(()) } else { Err(bad()) }
}

/// Go's durations: `1h2m3.5s`, each number with a unit; `0` alone needs none.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = |why: &str| ValueError(format!("time: {why} \"{text}\""));
    let mut rest = text;
    let mut nanos = 0_f64;
    if rest.is_empty() {
        return Err(bad("invalid duration"));
    }
    while !rest.is_empty() {
        let end =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| bad("missing unit in duration"))?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| bad("invalid duration"))?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        nanos += number
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(bad("unknown unit in duration")),
            };
        rest = after;
    }
    if nanos > 9e18 {
        return Err(bad("invalid duration"));
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// A truth value as Go's `strconv.ParseBool` reads it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes: a number, perhaps with a point, and `b`, `k`, `m`, `g`, `t` or `p` (powers of 1024; `kb` and `kib` are the same).
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let bad = || ValueError(format!("invalid size: '{text}'"));
    let lower = text.trim().to_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "" if unit.contains('i') => return Err(bad()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    let bytes = number * 1024_f64.powi(power);
    if bytes < 9e18 { Ok(bytes as u64) } else { Err(bad()) }
}

/// Whether a source is fetched over HTTP.
pub fn is_http_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn builder_w09_ports() {
        assert_eq!(parse_port_spec("9000-9002/udp").unwrap(), ["9000/udp", "9001/udp", "9002/udp"]);
        assert_eq!(parse_port_spec("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse_port_spec("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        for bad in ["90-80", "70000", "0", "x", "80/foo", ""] {
            assert!(parse_port_spec(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn builder_w08_durations_need_a_unit() {
        assert_eq!(parse_duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("0").unwrap(), Duration::ZERO);
        for bad in ["5", "", "5x", "s", "-5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "WINCH"] {
            assert!(parse_signal(good).is_ok(), "{good}");
        }
        for bad in ["0", "65", "SIGNOPE", ""] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [("0", 0), ("512", 512), ("1k", 1024), ("1.5MB", 3 << 19), ("2GiB", 2 << 30), ("7b", 7)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "k", "1x", "-1", "1ib", "9999p9"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
