//! The image of a solved plan: configuration, history and layers.

use std::collections::BTreeMap;

use cache::{History, ImageConfig, InlineRecord};

use crate::plan::Plan;
use crate::solve::Solved;

/// The configuration of a solved plan's image.
///
/// Times come from the layers, not from the clock: a build that hits throughout gives the same image again.
pub fn image_config(plan: &Plan, solved: &Solved) -> ImageConfig {
    let mut image = plan.config.image.clone();
    image.rootfs.diff_ids = solved.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let base_created = plan.config.base_history.iter().rev().find_map(|entry| entry.created.clone());
    let mut created = base_created.unwrap_or_else(|| rfc3339(plan.options.source_date_epoch.unwrap_or(0)));
    image.history.clone_from(&plan.config.base_history);
    let mut steps = plan.layer_steps.iter();
    for line in &plan.config.history {
        if !line.empty_layer
            && let Some(seconds) = steps.next().and_then(|step| solved.created.get(step))
        {
            created = rfc3339(plan.options.source_date_epoch.unwrap_or(*seconds));
        }
        image.history.push(History {
            created: Some(created.clone()),
            created_by: Some(line.created_by.clone()),
            comment: Some("dunnage".to_owned()),
            author: line.author.clone(),
            empty_layer: line.empty_layer,
            ..History::default()
        });
    }
    image.created = Some(created);
    // What a base says of its steps is not said of this image.
    image.rest.remove(cache::INLINE_RECORDS);
    if let Some(records) = inline_records(solved) {
        image.rest.insert(cache::INLINE_RECORDS.to_owned(), records);
    }
    image
}

/// What the image says of its steps, where it is asked to. Layers of its own are named as it has them.
fn inline_records(solved: &Solved) -> Option<serde_json::Value> {
    let own: BTreeMap<_, _> = solved.made_by.iter().zip(&solved.layers).collect();
    let records = solved.inline.iter().map(|(step, record)| match own.get(step) {
        Some(layer) => InlineRecord { layer: layer.diff_id.clone(), size: Some(layer.size), ..record.clone() },
        None => record.clone(),
    });
    let records: Vec<InlineRecord> = records.collect();
    if records.is_empty() { None } else { serde_json::to_value(records).ok() }
}

/// Unix seconds as RFC 3339 in UTC (OCI image-spec, `created`); a year that no calendar has becomes the epoch.
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }
}
