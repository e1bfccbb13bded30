//! The functions of templates: Go's, and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::eval::{Found, Scope, operand_value, show};
use super::printf::printf;
use super::{METHOD, Operand, absent};

/// Calls a function with what stands behind it, and what was piped into it as the last argument.
pub(super) fn call_function(
    name: &str,
    operands: &[Operand],
    piped: Option<Found>,
    scope: &Scope,
) -> Result<Found, String> {
    if name == "and" || name == "or" {
        return first_that(name == "or", operands, piped, scope);
    }
    let found = operands.iter().map(|operand| operand_value(operand, scope)).chain(piped.map(Ok));
    let mut found: Vec<Found> = found.collect::<Result<_, String>>()?;
    if name == "json" {
        return match (found.pop(), found.is_empty()) {
            (Some(only), true) if scope.heading => Ok(only),
            (Some(only), true) => Ok(Found::plain(json(&only.value))),
            _ => Err("the template's `json` takes 1 argument".to_owned()),
        };
    }
    // What the last key is looked up in has a name only where it is the first argument.
    let of_map = found.first().filter(|_| name == "index" && found.len() == 2).map(|first| first.name.clone());
    let arguments: Vec<Value> = found.into_iter().map(Found::settled).collect();
    if let (Some(of_map), [Value::Object(map), Value::String(key)]) = (of_map, arguments.as_slice())
        && !map.contains_key(key)
    {
        return Ok(Found::plain(absent::entry(&of_map, map)));
    }
    if scope.heading && matches!(name, "split" | "join" | "title" | "lower" | "upper" | "truncate") {
        return Ok(Found::plain(arguments.into_iter().find(Value::is_string).unwrap_or(Value::Null)));
    }
    function(name, &arguments).map(Found::plain)
}

/// `and` and `or` look no further than they must.
fn first_that(wanted: bool, operands: &[Operand], piped: Option<Found>, scope: &Scope) -> Result<Found, String> {
    let mut last = Found::plain(Value::Null);
    for operand in operands {
        last = operand_value(operand, scope)?;
        if truth(&last.clone().settled()) == wanted {
            return Ok(last);
        }
    }
    Ok(piped.unwrap_or(last))
}

fn json(value: &Value) -> String {
    match value {
        Value::Object(map) if map.keys().any(|key| key.starts_with(METHOD)) => {
            let shown = map.iter().filter(|(key, _)| !key.starts_with(METHOD));
            Value::Object(shown.map(|(key, value)| (key.clone(), value.clone())).collect()).to_string()
        }
        other => other.to_string(),
    }
}

fn function(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).map(show).unwrap_or_default();
    let number = |at: usize| arguments.get(at).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    let needs = |count: usize| {
        let s = if count == 1 { "" } else { "s" };
        let given = arguments.len();
        let wrong = || format!("the template's `{name}` takes {count} argument{s}, not {given}");
        (given == count).then_some(()).ok_or_else(wrong)
    };
    match name {
        "upper" => needs(1).map(|()| text(0).to_uppercase().into()),
        "lower" => needs(1).map(|()| text(0).to_lowercase().into()),
        "title" => needs(1).map(|()| capital(&text(0)).into()),
        "join" => needs(2).map(|()| strings(arguments.first()).join(&text(1)).into()),
        "split" => needs(2).map(|()| text(0).split(text(1).as_str()).collect::<Vec<_>>().into()),
        "truncate" => {
            needs(2).map(|()| text(0).chars().take(number(1).unwrap_or(usize::MAX)).collect::<String>().into())
        }
        "pad" => needs(3).map(|()| padded(&text(0), number(1).unwrap_or(0), number(2).unwrap_or(0)).into()),
        "len" => needs(1).and_then(|()| length(arguments.first())).map(Value::from),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(print(arguments).into()),
        "println" => Ok((arguments.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into()),
        "printf" => printf(arguments).map(Value::from),
        "eq" => match arguments.split_first() {
            Some((first, rest)) if !rest.is_empty() => Ok(rest.iter().any(|other| same(first, other)).into()),
            _ => Err("the template's `eq` needs two arguments".to_owned()),
        },
        "ne" => needs(2).map(|()| (!arguments.first().zip(arguments.get(1)).is_some_and(|(a, b)| same(a, b))).into()),
        "lt" | "le" | "gt" | "ge" => {
            needs(2)?;
            let order = order(arguments.first(), arguments.get(1))?;
            Ok(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }
            .into())
        }
        "not" => needs(1).map(|()| (!arguments.first().is_some_and(truth)).into()),
        _ => Err(format!("the template calls `{name}`, which is no function here")),
    }
}

/// As Go does it: blanks only between values that are both no text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| arguments.get(at));
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            out.push(' ');
        }
        out.push_str(&show(value));
    }
    out
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn order(one: Option<&Value>, other: Option<&Value>) -> Result<Ordering, String> {
    let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
    let numbers = one.as_f64().zip(other.as_f64()).and_then(|(one, other)| one.partial_cmp(&other));
    let texts = one.as_str().zip(other.as_str()).map(|(one, other)| one.cmp(other));
    numbers.or(texts).ok_or(format!("the template compares {} with {}", show(one), show(other)))
}

fn padded(text: &str, before: usize, after: usize) -> String {
    // Nothing on a screen is wider, and a template must not take all memory.
    const MOST: usize = 4096;
    if text.is_empty() {
        return String::new();
    }
    format!("{}{text}{}", " ".repeat(before.min(MOST)), " ".repeat(after.min(MOST)))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let Some((value, keys)) = arguments.split_first() else {
        return Err("the template's `index` needs arguments".to_owned());
    };
    let mut at = value;
    for key in keys {
        let inner = match (at, key) {
            (Value::Object(map), Value::String(key)) => map.get(key),
            (Value::Array(items), Value::Number(number)) => {
                let place = number.as_u64().and_then(|number| usize::try_from(number).ok());
                let item = place.and_then(|place| items.get(place));
                Some(item.ok_or(format!("the template's index {number} is out of range"))?)
            }
            (Value::Null, _) => return Err(format!("the template's index {} is one of nothing", show(key))),
            _ => return Err(format!("the template cannot index {} with {}", show(at), show(key))),
        };
        at = inner.unwrap_or(&Value::Null);
    }
    Ok(at.clone())
}

/// `slice X FROM TO`, of texts and lists.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let Some((value, bounds)) = arguments.split_first() else {
        return Err("the template's `slice` needs arguments".to_owned());
    };
    let bound = |at: usize| bounds.get(at).map(|bound| bound.as_u64().and_then(|bound| usize::try_from(bound).ok()));
    let out_of_range = || format!("the template's `slice` is out of the range of {}", show(value));
    let from = bound(0).unwrap_or(Some(0)).ok_or_else(out_of_range)?;
    let to = bound(1).unwrap_or(length(Some(value)).ok()).ok_or_else(out_of_range)?;
    match value {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(out_of_range),
        Value::Array(items) => items.get(from..to).map(|items| items.to_vec().into()).ok_or_else(out_of_range),
        other => Err(format!("the template cannot slice {}", show(other))),
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(show).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![show(other)],
    }
}

fn length(value: Option<&Value>) -> Result<usize, String> {
    match value {
        Some(Value::Array(items)) => Ok(items.len()),
        Some(Value::Object(map)) => Ok(map.len()),
        Some(Value::String(text)) => Ok(text.len()),
        Some(Value::Null) | None => Ok(0),
        Some(other) => Err(format!("the template asks for the length of {}", show(other))),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
