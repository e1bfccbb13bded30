//! From a template's nodes and a value to text.

use serde_json::{Map, Value};

use super::functions::{call_function, truth};
use super::{Head, METHOD, Node, Operand, Pipeline, absent};

/// A value, and the name of the field that it was found under.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) name: String,
}

impl Found {
    pub(super) fn plain(value: impl Into<Value>) -> Found {
        Found { value: value.into(), name: String::new() }
    }

    /// The value, or what docker's type has where JSON has null.
    pub(super) fn settled(self) -> Value {
        match self.value {
            Value::Null => absent::field(&self.name).unwrap_or(Value::Null),
            value => value,
        }
    }
}

pub(super) struct Scope {
    root: Found,
    dot: Found,
    variables: Vec<(String, Found)>,
    /// Whether the line above a table is made: functions leave headings alone.
    pub(super) heading: bool,
}

/// What goes on after a node.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn render(nodes: &[Node], value: &Value, heading: bool) -> Result<String, String> {
    let root = Found::plain(value.clone());
    let mut scope = Scope { dot: root.clone(), root, variables: Vec::new(), heading };
    let mut out = String::new();
    run(nodes, &mut scope, &mut out)?;
    Ok(out)
}

/// A block's own variables end with it.
fn run(nodes: &[Node], scope: &mut Scope, out: &mut String) -> Result<Flow, String> {
    let depth = scope.variables.len();
    for node in nodes {
        let flow = step(node, scope, out)?;
        if flow != Flow::On {
            scope.variables.truncate(depth);
            return Ok(flow);
        }
    }
    scope.variables.truncate(depth);
    Ok(Flow::On)
}

fn step(node: &Node, scope: &mut Scope, out: &mut String) -> Result<Flow, String> {
    match node {
        Node::Text(text) => out.push_str(text),
        Node::Show(pipeline) => out.push_str(&show_found(evaluate(pipeline, scope)?)),
        Node::Set { name, new, value } => {
            let value = evaluate(value, scope)?;
            let known = scope.variables.iter_mut().rev().find(|(known, _)| known == name);
            match known {
                Some((_, place)) if !new => *place = value,
                None if !new => return Err(format!("the template has no variable ${name}")),
                _ => scope.variables.push((name.clone(), value)),
            }
        }
        Node::If { condition, body, otherwise } => {
            return inside(condition, scope, |value, scope| {
                run(if truth(&value.settled()) { body } else { otherwise }, scope, out)
            });
        }
        Node::With { value, body, otherwise } => {
            return inside(value, scope, |value, scope| {
                if !truth(&value.clone().settled()) {
                    return run(otherwise, scope, out);
                }
                let dot = std::mem::replace(&mut scope.dot, value);
                let flow = run(body, scope, out);
                scope.dot = dot;
                flow
            });
        }
        Node::Range { over, body, otherwise } => range(over, body, otherwise, scope, out)?,
        Node::Break => return Ok(Flow::Break),
        Node::Continue => return Ok(Flow::Continue),
    }
    Ok(Flow::On)
}

/// Evaluates what opens a block, with its variable while the block lasts.
fn inside(
    head: &Head,
    scope: &mut Scope,
    block: impl FnOnce(Found, &mut Scope) -> Result<Flow, String>,
) -> Result<Flow, String> {
    let value = evaluate(&head.value, scope)?;
    let depth = scope.variables.len();
    scope.variables.extend(head.names.first().map(|name| (name.clone(), value.clone())));
    let flow = block(value, scope);
    scope.variables.truncate(depth);
    flow
}

fn range(head: &Head, body: &[Node], otherwise: &[Node], scope: &mut Scope, out: &mut String) -> Result<(), String> {
    let items = items(evaluate(&head.value, scope)?)?;
    if items.is_empty() {
        run(otherwise, scope, out)?;
        return Ok(());
    }
    let (dot, depth) = (scope.dot.clone(), scope.variables.len());
    for (key, value) in items {
        match head.names.as_slice() {
            [] => {}
            [one] => scope.variables.push((one.clone(), Found::plain(value.clone()))),
            [first, second, ..] => {
                scope.variables.push((first.clone(), Found::plain(key)));
                scope.variables.push((second.clone(), Found::plain(value.clone())));
            }
        }
        scope.dot = Found::plain(value);
        let flow = run(body, scope, out);
        scope.variables.truncate(depth);
        if flow? == Flow::Break {
            break;
        }
    }
    scope.dot = dot;
    Ok(())
}

/// Keys and values; those of a map in the order of their keys.
fn items(found: Found) -> Result<Vec<(Value, Value)>, String> {
    match found.settled() {
        Value::Array(items) => Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect()),
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
            pairs.sort_by(|one, other| one.0.cmp(&other.0));
            Ok(pairs.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
        }
        Value::Null => Ok(Vec::new()),
        other => Err(format!("the template cannot range over {}", show(&other))),
    }
}

pub(super) fn evaluate(pipeline: &Pipeline, scope: &Scope) -> Result<Found, String> {
    let mut piped: Option<Found> = None;
    for command in pipeline {
        piped = Some(call(command, piped, scope)?);
    }
    Ok(piped.unwrap_or(Found::plain(Value::Null)))
}

fn call(command: &[Operand], piped: Option<Found>, scope: &Scope) -> Result<Found, String> {
    let Some((first, rest)) = command.split_first() else { return Ok(Found::plain(Value::Null)) };
    match first {
        Operand::Function(name) => call_function(name, rest, piped, scope),
        operand if rest.is_empty() && piped.is_none() => operand_value(operand, scope),
        Operand::Field(path) => method(path, rest, piped, scope),
        _ => Err("the template gives arguments to what is no function".to_owned()),
    }
}

/// `.Label "x"`.
fn method(path: &[String], rest: &[Operand], piped: Option<Found>, scope: &Scope) -> Result<Found, String> {
    let arguments = rest.iter().map(|operand| operand_value(operand, scope)).chain(piped.map(Ok));
    let arguments: Vec<Value> = arguments.map(|found| Ok(found?.settled())).collect::<Result<_, String>>()?;
    if let ([name], [Value::String(key)], Value::Object(map)) = (path, arguments.as_slice(), &scope.dot.value) {
        if scope.heading {
            // Docker's heading of a label is the last part of its name.
            return Ok(Found::plain(key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")));
        }
        if let Some(values) = map.get(&format!("{METHOD}{name}")) {
            return Ok(Found::plain(values.get(key).cloned().unwrap_or_else(|| Value::from(""))));
        }
    }
    Err("the template gives arguments to what is no function".to_owned())
}

pub(super) fn operand_value(operand: &Operand, scope: &Scope) -> Result<Found, String> {
    match operand {
        Operand::Field(path) => field(&scope.dot, path),
        Operand::Variable(name, path) if name.is_empty() => field(&scope.root, path),
        Operand::Variable(name, path) => {
            let known = scope.variables.iter().rev().find(|(known, _)| known == name);
            field(known.map(|(_, value)| value).ok_or(format!("the template has no variable ${name}"))?, path)
        }
        Operand::Literal(value) => Ok(Found::plain(value.clone())),
        Operand::Function(name) => call_function(name, &[], None, scope),
        Operand::Group(pipeline, path) => field(&evaluate(pipeline, scope)?, path),
    }
}

/// A field that is not there is a mistake in the template, but where the keys are the users' own or docker's type has it.
fn field(from: &Found, path: &[String]) -> Result<Found, String> {
    let mut at = from.clone();
    for name in path {
        let value = match &at.value {
            Value::Object(map) => match map.get(name) {
                Some(inner) => inner.clone(),
                None if absent::is_free(&at.name, map) => Value::Null,
                None => {
                    spelled(name, map).or_else(|| absent::field(name)).ok_or_else(|| unknown_field(name, map.keys()))?
                }
            },
            Value::Null => return Err(format!("the template asks for .{name} of what is not there")),
            _ => return Err(format!("the template asks for .{name} of what has no fields")),
        };
        at = Found { value, name: name.clone() };
    }
    Ok(at)
}

/// Docker's types spell some fields in other letters than its JSON, as `.ID` and `.Id`, and scripts have both.
fn spelled(name: &str, map: &Map<String, Value>) -> Option<Value> {
    map.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

fn unknown_field<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).filter(|key| !key.starts_with(METHOD)).collect();
    let nearest = grammar::nearest(name, known.iter().copied()).map(|near| format!("; did you mean .{near}?"));
    format!("the template asks for .{name}, and there are {}{}", known.join(", "), nearest.unwrap_or_default())
}

fn show_found(found: Found) -> String {
    match (&found.value, absent::field(&found.name)) {
        (Value::Null, Some(Value::Null)) => "<nil>".to_owned(),
        _ => show(&found.settled()),
    }
}

/// As Go prints it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let shown = map.iter().filter(|(key, _)| !key.starts_with(METHOD));
            let mut pairs: Vec<String> = shown.map(|(key, value)| format!("{key}:{}", show(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
