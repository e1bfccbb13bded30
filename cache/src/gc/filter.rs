//! What a prune is limited to: age, labels, and how much may stay.

use std::collections::BTreeMap;

/// A condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// Its name.
    pub key: String,
    /// Its value, when that matters.
    pub value: Option<String>,
    /// `label!=`: only what does not have it goes.
    pub absent: bool,
}

/// All of these must hold for a thing to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Made (of the build cache: used) before this, in Unix seconds.
    pub until: Option<u64>,
    /// Labels of containers, images and volumes. The build cache has none, and stays when labels are asked for.
    pub labels: Vec<LabelFilter>,
}

impl Filters {
    pub(super) fn allow_age(&self, unix: u64) -> bool {
        self.until.is_none_or(|until| unix < until)
    }

    pub(super) fn allow_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|filter| {
            let found = labels.get(&filter.key).is_some_and(|value| filter.value.as_ref().is_none_or(|it| it == value));
            found != filter.absent
        })
    }
}

/// How much build cache may stay. Without any of these, everything that may go goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// No more than this stays.
    pub max_used: Option<u64>,
    /// This much stays in any case.
    pub reserved: Option<u64>,
    /// The disk should have this much free.
    pub min_free: Option<u64>,
}

impl Budget {
    /// Whether anything was asked for.
    pub fn is_none(&self) -> bool {
        *self == Budget::default()
    }

    /// Bytes of cache that may stay, of `used`, when the disk has `free` left.
    pub(super) fn keep(&self, used: u64, free: u64) -> u64 {
        let by_size = self.max_used.unwrap_or(u64::MAX);
        let by_disk = self.min_free.map_or(u64::MAX, |wanted| used.saturating_sub(wanted.saturating_sub(free)));
        let reserved = self.reserved.unwrap_or(0);
        if self.max_used.is_none() && self.min_free.is_none() {
            return reserved;
        }
        by_size.min(by_disk).max(reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_say_what_stays() {
        let budget = |max_used, reserved, min_free| Budget { max_used, reserved, min_free };
        assert_eq!(budget(None, None, None).keep(100, 5), 0);
        assert_eq!(budget(None, Some(30), None).keep(100, 5), 30);
        assert_eq!(budget(Some(40), None, None).keep(100, 5), 40);
        assert_eq!(budget(Some(40), Some(60), None).keep(100, 5), 60);
        assert_eq!(budget(None, None, Some(25)).keep(100, 5), 80);
        assert_eq!(budget(None, None, Some(3)).keep(100, 5), 100);
        assert_eq!(budget(Some(90), None, Some(25)).keep(100, 5), 80);
        assert_eq!(budget(None, Some(10), Some(500)).keep(100, 5), 10);
    }

    #[test]
    fn labels_must_all_agree() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let filter = |key: &str, value: Option<&str>, absent| LabelFilter {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            absent,
        };
        for (filters, allowed) in [
            (vec![], true),
            (vec![filter("a", None, false)], true),
            (vec![filter("a", Some("1"), false)], true),
            (vec![filter("a", Some("2"), false)], false),
            (vec![filter("a", None, true)], false),
            (vec![filter("a", Some("2"), true)], true),
            (vec![filter("b", None, true), filter("a", None, false)], true),
            (vec![filter("b", None, false), filter("a", None, false)], false),
        ] {
            assert_eq!(Filters { until: None, labels: filters.clone() }.allow_labels(&labels), allowed, "{filters:?}");
        }
    }
}
