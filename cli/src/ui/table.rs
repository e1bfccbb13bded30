//! Lists in columns, as JSON lines, or through a template: one list of rows gives all three.

use serde_json::{Map, Value};

use super::template::{METHOD, Template};
use crate::command::Failure;

/// A column: the name that templates use, and the heading.
pub(crate) type Column = (&'static str, &'static str);

/// Prints rows. `shown` are the columns without `--format`; a row is an object with every field that a template may ask for.
///
/// # Errors
/// When the format cannot be understood or the output is gone.
pub(crate) fn print(rows: &[Map<String, Value>], shown: &[Column], format: Option<&str>) -> Result<(), Failure> {
    // As with docker an empty format, as of a variable that is not set, is none.
    match format.filter(|format| !format.is_empty()).unwrap_or("table") {
        "table" => columns(&head(shown), &cells(rows, shown)),
        "json" => rows.iter().try_for_each(|row| {
            let shown = row.iter().filter(|(name, _)| !name.starts_with(METHOD));
            let shown = shown.map(|(name, value)| (name.clone(), value.clone())).collect();
            Ok(super::line(&Value::Object(shown).to_string())?)
        }),
        text => templated(rows, shown, text),
    }
}

fn templated(rows: &[Map<String, Value>], shown: &[Column], text: &str) -> Result<(), Failure> {
    let (table, text) = match text.strip_prefix("table ") {
        Some(rest) => (true, rest.replace("\\t", "\t")),
        None => (false, text.replace("\\t", "\t").replace("\\n", "\n")),
    };
    let template = Template::parse(&text).map_err(Failure::usage)?;
    let lines = rows.iter().map(|row| template.render(&Value::Object(row.clone()))).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(Failure::usage)?;
    if !table {
        return lines.iter().try_for_each(|line| Ok(super::line(line)?));
    }
    let headings: Map<String, Value> = template
        .fields()
        .into_iter()
        .map(|field| {
            let heading = shown
                .iter()
                .find(|(name, _)| *name == field)
                .map_or_else(|| field.to_uppercase(), |(_, heading)| (*heading).to_owned());
            (field, Value::String(heading))
        })
        .collect();
    let head = template.heading(headings).map_err(Failure::usage)?;
    let split = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    columns(&split(&head), &lines.iter().map(|line| split(line)).collect::<Vec<_>>())
}

fn head(shown: &[Column]) -> Vec<String> {
    shown.iter().map(|(_, heading)| (*heading).to_owned()).collect()
}

fn cells(rows: &[Map<String, Value>], shown: &[Column]) -> Vec<Vec<String>> {
    let cell = |row: &Map<String, Value>, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    rows.iter().map(|row| shown.iter().map(|(name, _)| cell(row, name)).collect()).collect()
}

/// Columns are at least so wide, as docker's are, without the blanks between them.
const NARROWEST: usize = 7;

/// Left-aligned columns three spaces apart; the last one is not padded.
///
/// # Errors
/// When the output is gone.
pub(crate) fn columns(head: &[String], rows: &[Vec<String>]) -> Result<(), Failure> {
    let all = || std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
    let count = all().map(<[String]>::len).max().unwrap_or(0);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        super::line(line.trim_end())?;
    }
    Ok(())
}
