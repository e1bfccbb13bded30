//! What all forms of `prune` take: filters, budgets, and whether to ask.

use std::time::Duration;

use clap::Args;
use engine::{Budget, Filters, LabelFilter};
use jiff::Timestamp;

use crate::ui::units;

/// Whether to ask, and whether to do it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only tell what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How much build cache may stay.
#[derive(Debug, Clone, Args)]
pub(crate) struct BudgetArgs {
    /// Remove the least recently used build cache until no more than this is used
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    pub(crate) max_used_space: Option<u64>,
    /// Build cache that stays in any case
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = units::parse_bytes)]
    pub(crate) reserved_space: Option<u64>,
    /// Remove the least recently used build cache until the disk has this much free
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    pub(crate) min_free_space: Option<u64>,
}

impl BudgetArgs {
    pub(crate) fn budget(&self) -> Budget {
        Budget { max_used: self.max_used_space, reserved: self.reserved_space, min_free: self.min_free_space }
    }
}

/// Remove what nothing uses
#[derive(Debug, Args)]
#[command(
    after_help = "Without --all: stopped containers, networks without one, images without a name, and layers that neither an image nor a
cached step has. What running builds and containers work with always stays.

Examples:
  dunnage system prune --all --filter until=240h     what was not used for ten days
  dunnage system prune --max-used-space 20GB         build cache, the least recently used first"
)]
pub(crate) struct SystemPruneArgs {
    /// Also images that no container stands on, the whole build cache, and what is in quarantine
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Also volumes that nobody gave a name and no container has
    #[arg(long)]
    pub(crate) volumes: bool,
    /// until=AGE or label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    /// Also the records of builds that began longer ago, as 24h or 30m
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub(crate) builds_older_than: Option<Duration>,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

fn age(text: &str) -> Result<Duration, String> {
    grammar::parse_duration(text).map_err(|_| format!("`{text}` is not a time such as 24h or 30m"))
}

/// Remove build cache
#[derive(Debug, Args)]
pub(crate) struct BuilderPruneArgs {
    /// Also cached steps whose layer an image has
    #[arg(short, long)]
    pub(crate) all: bool,
    /// until=AGE: not used for this long
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Remove unused images
#[derive(Debug, Args)]
pub(crate) struct ImagePruneArgs {
    /// Also images that have a name, when no container stands on them
    #[arg(short, long)]
    pub(crate) all: bool,
    /// until=AGE or label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Remove all stopped containers
#[derive(Debug, Args)]
pub(crate) struct ContainerPruneArgs {
    /// until=AGE or label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Remove volumes that no container has
#[derive(Debug, Args)]
pub(crate) struct VolumePruneArgs {
    /// Also volumes that have a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// Remove networks that no container is on
#[derive(Debug, Args)]
pub(crate) struct NetworkPruneArgs {
    /// until=AGE or label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<Filter>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Unix seconds.
    Until(u64),
    Label(LabelFilter),
}

/// All filters as one.
pub(crate) fn filters(all: &[Filter]) -> Filters {
    let mut filters = Filters::default();
    for filter in all {
        match filter {
            Filter::Until(unix) => filters.until = Some(filters.until.map_or(*unix, |other| other.min(*unix))),
            Filter::Label(label) => filters.labels.push(label.clone()),
        }
    }
    filters
}

fn filter(text: &str) -> Result<Filter, String> {
    if let Some(when) = text.strip_prefix("until=") {
        return until(when, Timestamp::now()).map(Filter::Until);
    }
    let (rest, absent) = match (text.strip_prefix("label!="), text.strip_prefix("label=")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return Err("filters are until=AGE, label=KEY[=VALUE] and label!=KEY[=VALUE]".to_owned()),
    };
    let (key, value) = label(rest)?;
    Ok(Filter::Label(LabelFilter { key, value, absent }))
}

/// `KEY[=VALUE]` of a filter by label.
pub(super) fn label(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("a label has a name".to_owned());
    }
    Ok((key.to_owned(), value))
}

/// `24h`, `1h30m`, Unix seconds, a date, or RFC 3339.
pub(super) fn until(text: &str, now: Timestamp) -> Result<u64, String> {
    let unix = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(unix(seconds));
    }
    if let Some(age) = go_duration(text) {
        return Ok(unix(now.as_second().saturating_sub_unsigned(age.as_secs())));
    }
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(date).ok()
    });
    at.map(|at| unix(at.as_second())).ok_or_else(|| {
        format!("`{text}` is neither an age such as 24h or 1h30m nor a time such as 2026-05-01 or 2026-05-01T12:00:00Z")
    })
}

/// Go's durations: numbers with h, m, s and below.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let (unit, seconds) =
            [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
                .into_iter()
                .find(|(unit, _)| tail.starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail.strip_prefix(unit)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times_are_gos() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, unix) in [
            ("24h", Some(913_600)),
            ("1h30m", Some(994_600)),
            ("1.5h", Some(994_600)),
            ("90s", Some(999_910)),
            ("500ms", Some(1_000_000)),
            ("1234", Some(1234)),
            ("1970-01-02", Some(86_400)),
            ("1970-01-01T00:01:00Z", Some(60)),
            ("1970-01-01T00:01:00", Some(60)),
            ("99999999h", Some(0)),
            ("", None),
            ("24", Some(24)),
            ("24x", None),
            ("yesterday", None),
        ] {
            assert_eq!(until(text, now).ok(), unix, "{text}");
        }
    }

    #[test]
    fn label_filters_have_three_forms() {
        let label = |key: &str, value: Option<&str>, absent| {
            Ok(Filter::Label(LabelFilter { key: key.to_owned(), value: value.map(str::to_owned), absent }))
        };
        assert_eq!(filter("label=a"), label("a", None, false));
        assert_eq!(filter("label=a=b=c"), label("a", Some("b=c"), false));
        assert_eq!(filter("label!=a=b"), label("a", Some("b"), true));
        assert!(filter("label=").is_err() && filter("dangling=true").is_err());
    }
}
