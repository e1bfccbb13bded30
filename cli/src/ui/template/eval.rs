//! From a template's nodes and a value to text.

use serde_json::Value;

use super::{Node, Operand, Pipeline};

struct Scope<'a> {
    root: &'a Value,
    dot: &'a Value,
}

pub(super) fn render(nodes: &[Node], value: &Value) -> Result<String, String> {
    let mut out = String::new();
    run(nodes, &Scope { root: value, dot: value }, &mut out)?;
    Ok(out)
}

fn run(nodes: &[Node], scope: &Scope<'_>, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(pipeline) => out.push_str(&show(&evaluate(pipeline, scope)?)),
            Node::If { condition, body, otherwise } => {
                let chosen = if truth(&evaluate(condition, scope)?) { body } else { otherwise };
                run(chosen, scope, out)?;
            }
            Node::Range { over, body, otherwise } => {
                let items = items(evaluate(over, scope)?)?;
                if items.is_empty() {
                    run(otherwise, scope, out)?;
                }
                for item in &items {
                    run(body, &Scope { root: scope.root, dot: item }, out)?;
                }
            }
        }
    }
    Ok(())
}

fn items(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Object(map) => Ok(map.into_iter().map(|(_, value)| value).collect()),
        Value::Null => Ok(Vec::new()),
        other => Err(format!("the template cannot range over {}", show(&other))),
    }
}

fn evaluate(pipeline: &Pipeline, scope: &Scope<'_>) -> Result<Value, String> {
    let mut piped: Option<Value> = None;
    for command in pipeline {
        piped = Some(call(command, piped, scope)?);
    }
    Ok(piped.unwrap_or(Value::Null))
}

fn call(command: &[Operand], piped: Option<Value>, scope: &Scope<'_>) -> Result<Value, String> {
    let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
    let mut arguments = rest.iter().map(|operand| operand_value(operand, scope)).collect::<Result<Vec<_>, _>>()?;
    arguments.extend(piped);
    match first {
        Operand::Function(name) => function(name, &arguments),
        operand if arguments.is_empty() => operand_value(operand, scope),
        _ => Err("the template gives arguments to what is no function".to_owned()),
    }
}

fn operand_value(operand: &Operand, scope: &Scope<'_>) -> Result<Value, String> {
    match operand {
        Operand::Field(path) => field(scope.dot, path),
        Operand::Root(path) => field(scope.root, path),
        Operand::Literal(value) => Ok(value.clone()),
        Operand::Function(name) => function(name, &[]),
        Operand::Group(pipeline) => evaluate(pipeline, scope),
    }
}

/// A field that the outermost object lacks is a mistake in the template; deeper ones (labels) may well be absent.
fn field(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut at = value;
    for (depth, name) in path.iter().enumerate() {
        match at {
            Value::Object(map) => match map.get(name) {
                Some(inner) => at = inner,
                None if depth == 0 => return Err(unknown_field(name, map.keys())),
                None => return Ok(Value::Null),
            },
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("the template asks for .{name} of what has no fields")),
        }
    }
    Ok(at.clone())
}

fn unknown_field<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let nearest = grammar::nearest(name, known.iter().copied()).map(|near| format!("; did you mean .{near}?"));
    format!("the template asks for .{name}, and there are {}{}", known.join(", "), nearest.unwrap_or_default())
}

fn function(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).map(show).unwrap_or_default();
    let needs = |count: usize| {
        if arguments.len() == count {
            Ok(())
        } else {
            Err(format!("the template's `{name}` takes {count} arguments, not {}", arguments.len()))
        }
    };
    match name {
        "json" => needs(1).map(|()| arguments.first().map(Value::to_string).unwrap_or_default().into()),
        "upper" => needs(1).map(|()| text(0).to_uppercase().into()),
        "lower" => needs(1).map(|()| text(0).to_lowercase().into()),
        "title" => needs(1).map(|()| capital(&text(0)).into()),
        "join" => needs(2).map(|()| strings(arguments.first()).join(&text(1)).into()),
        "split" => needs(2).map(|()| text(0).split(text(1).as_str()).collect::<Vec<_>>().into()),
        "len" => needs(1).map(|()| length(arguments.first()).into()),
        "index" => index(arguments),
        "print" => Ok(arguments.iter().map(show).collect::<Vec<_>>().join(" ").into()),
        "println" => Ok((arguments.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into()),
        "printf" => printf(arguments).map(Value::from),
        "eq" => {
            Ok((arguments.len() > 1 && arguments.iter().skip(1).any(|other| Some(other) == arguments.first())).into())
        }
        "ne" => needs(2).map(|()| (arguments.first() != arguments.get(1)).into()),
        "not" => needs(1).map(|()| (!arguments.first().is_some_and(truth)).into()),
        "and" => Ok(arguments.iter().find(|value| !truth(value)).or(arguments.last()).cloned().unwrap_or(Value::Null)),
        "or" => Ok(arguments.iter().find(|value| truth(value)).or(arguments.last()).cloned().unwrap_or(Value::Null)),
        _ => Err(format!("the template calls `{name}`, which is no function here")),
    }
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
                Some(
                    place
                        .and_then(|place| items.get(place))
                        .ok_or(format!("the template's index {number} is out of range"))?,
                )
            }
            (Value::Null, _) => None,
            _ => return Err(format!("the template cannot index {} with {}", show(at), show(key))),
        };
        at = inner.unwrap_or(&Value::Null);
    }
    Ok(at.clone())
}

fn printf(arguments: &[Value]) -> Result<String, String> {
    let Some((format, rest)) = arguments.split_first() else {
        return Err("the template's `printf` needs a format".to_owned());
    };
    let format = show(format);
    let mut values = rest.iter();
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('%')) => out.push('%'),
            ('%', Some('s' | 'v' | 'd')) => {
                out.push_str(&values.next().map(show).ok_or("the template's `printf` has too few arguments")?)
            }
            ('%', Some('q')) => out.push_str(&format!("{:?}", values.next().map(show).unwrap_or_default())),
            ('%', verb) => {
                return Err(format!(
                    "the template's `printf` has the verb %{}, and %s %v %d %q %% are known",
                    verb.unwrap_or(' ')
                ));
            }
            (c, _) => out.push(c),
        }
    }
    Ok(out)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(show).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![show(other)],
    }
}

fn length(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        Some(Value::String(text)) => text.len(),
        _ => 0,
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", show(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
