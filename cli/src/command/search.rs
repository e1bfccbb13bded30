//! `search`.

use engine::{Cancel, Found};
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::args::{SearchArgs, SearchFilter};
use crate::ui::table::{self, Column};
use crate::{config, ui};

const COLUMNS: [Column; 4] =
    [("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];

/// Characters of a description that a table shows.
const WIDTH: usize = 45;

pub(super) fn search(args: &SearchArgs) -> Outcome {
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let found = config::fetch().search(&args.term, usize::from(args.limit), &cancel);
    let found = found.map_err(|error| super::registry::stopped(error, &interrupt))?;
    let wanted = |found: &&Found| {
        args.filter.iter().all(|filter| match filter {
            SearchFilter::Stars(fewest) => found.stars >= *fewest,
            SearchFilter::Official(official) => found.official == *official,
        })
    };
    let rows: Vec<Map<String, Value>> = found.iter().filter(wanted).map(|found| row(found, args.no_trunc)).collect();
    table::print(&rows, &COLUMNS, args.format.as_deref())?;
    Ok(0)
}

/// Whatever a registry says is shown on a line and drives no terminal.
fn row(found: &Found, whole: bool) -> Map<String, Value> {
    let description = ui::foreign::line(&found.description.replace(['\n', '\t'], " "));
    let description = match description.chars().count() > WIDTH && !whole {
        true => description.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => description,
    };
    let row = json!({
        "Name": ui::foreign::line(&found.name),
        "Description": description,
        "StarCount": found.stars.to_string(),
        "IsOfficial": if found.official { "[OK]" } else { "" },
    });
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}
