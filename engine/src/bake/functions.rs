//! The functions that project files may call: those of bake that its users' files have, by the same names.

use hcl::Value;
use hcl::eval::{Context, Func, FuncArgs, FuncDef, ParamType};

type Outcome = Result<Value, String>;

/// A context that knows the functions and no variable.
pub(super) fn context() -> Context<'static> {
    let mut context = Context::new();
    let text = || ParamType::String;
    let any = || ParamType::Any;
    let list = || ParamType::array_of(ParamType::Any);
    let fixed: [(&str, Func, Vec<ParamType>); 26] = [
        ("upper", |args| text_of(&args, str::to_uppercase), vec![text()]),
        ("lower", |args| text_of(&args, str::to_lowercase), vec![text()]),
        ("title", |args| text_of(&args, title), vec![text()]),
        ("trimspace", |args| text_of(&args, |text| text.trim().to_owned()), vec![text()]),
        (
            "trim",
            |args| two_texts(&args, |text, set| text.trim_matches(|c| set.contains(c)).to_owned()),
            vec![text(), text()],
        ),
        (
            "trimprefix",
            |args| two_texts(&args, |text, prefix| text.strip_prefix(prefix).unwrap_or(text).to_owned()),
            vec![text(), text()],
        ),
        (
            "trimsuffix",
            |args| two_texts(&args, |text, suffix| text.strip_suffix(suffix).unwrap_or(text).to_owned()),
            vec![text(), text()],
        ),
        ("replace", replace, vec![text(), text(), text()]),
        ("split", split, vec![text(), text()]),
        ("join", join, vec![text(), list()]),
        ("sanitize", |args| text_of(&args, sanitize), vec![text()]),
        ("strlen", |args| Ok(Value::from(text_at(&args, 0).chars().count() as u64)), vec![text()]),
        ("substr", substr, vec![text(), ParamType::Number, ParamType::Number]),
        ("length", length, vec![any()]),
        ("reverselist", |args| Ok(Value::Array(list_at(&args, 0).iter().rev().cloned().collect())), vec![list()]),
        ("distinct", distinct, vec![list()]),
        (
            "contains",
            |args| Ok(Value::Bool(args.get(1).is_some_and(|value| list_at(&args, 0).contains(value)))),
            vec![list(), any()],
        ),
        ("index", index, vec![any(), any()]),
        (
            "keys",
            |args| Ok(Value::Array(entries(&args).map(|(key, _)| Value::from(key.as_str())).collect())),
            vec![any()],
        ),
        ("values", |args| Ok(Value::Array(entries(&args).map(|(_, value)| value.clone()).collect())), vec![any()]),
        ("lookup", lookup, vec![any(), text(), any()]),
        ("equal", |args| Ok(Value::Bool(args.first() == args.get(1))), vec![any(), any()]),
        ("notequal", |args| Ok(Value::Bool(args.first() != args.get(1))), vec![any(), any()]),
        ("not", |args| Ok(Value::Bool(args.first() != Some(&Value::Bool(true)))), vec![ParamType::Bool]),
        (
            "and",
            |args| Ok(Value::Bool(args.iter().all(|value| *value == Value::Bool(true)))),
            vec![ParamType::Bool, ParamType::Bool],
        ),
        ("or", |args| Ok(Value::Bool(args.contains(&Value::Bool(true)))), vec![ParamType::Bool, ParamType::Bool]),
    ];
    for (name, function, params) in fixed {
        context.declare_func(name, FuncDef::new(function, params));
    }
    for (name, function) in
        [("concat", concat as Func), ("coalesce", coalesce), ("merge", merge), ("format", format_text)]
    {
        context.declare_func(name, FuncDef::builder().variadic_param(ParamType::Any).build(function));
    }
    super::more::declare(&mut context);
    context
}

pub(super) fn text_at(args: &FuncArgs, at: usize) -> &str {
    args.get(at).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list_at(args: &FuncArgs, at: usize) -> &[Value] {
    args.get(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn entries(args: &FuncArgs) -> impl Iterator<Item = (&String, &Value)> {
    args.first().and_then(Value::as_object).into_iter().flatten()
}

fn text_of(args: &FuncArgs, change: impl Fn(&str) -> String) -> Outcome {
    Ok(Value::from(change(text_at(args, 0))))
}

fn two_texts(args: &FuncArgs, change: impl Fn(&str, &str) -> String) -> Outcome {
    Ok(Value::from(change(text_at(args, 0), text_at(args, 1))))
}

fn title(text: &str) -> String {
    let mut fresh = true;
    let change = |c: char| {
        let upper = std::mem::replace(&mut fresh, !c.is_alphanumeric());
        if upper { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(change).collect()
}

/// What may stand in a target's name.
fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

fn replace(args: FuncArgs) -> Outcome {
    Ok(Value::from(text_at(&args, 0).replace(text_at(&args, 1), text_at(&args, 2))))
}

fn split(args: FuncArgs) -> Outcome {
    let (separator, text) = (text_at(&args, 0), text_at(&args, 1));
    Ok(Value::Array(text.split(separator).map(Value::from).collect()))
}

fn join(args: FuncArgs) -> Outcome {
    let texts: Result<Vec<String>, String> = list_at(&args, 1).iter().map(plain).collect();
    Ok(Value::from(texts?.join(text_at(&args, 0))))
}

pub(super) fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("`{other}` is no text")),
    }
}

fn substr(args: FuncArgs) -> Outcome {
    let text = text_at(&args, 0);
    let number = |at: usize| args.get(at).and_then(Value::as_i64).unwrap_or(0);
    let total = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let from = if number(1) < 0 { (total + number(1)).max(0) } else { number(1) };
    let count = if number(2) < 0 { i64::MAX } else { number(2) };
    let whole = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Value::from(text.chars().skip(whole(from)).take(whole(count)).collect::<String>()))
}

fn length(args: FuncArgs) -> Outcome {
    match args.first() {
        Some(Value::Array(list)) => Ok(Value::from(list.len() as u64)),
        Some(Value::Object(map)) => Ok(Value::from(map.len() as u64)),
        _ => Err("it takes a list or a map; strlen measures texts".to_owned()),
    }
}

fn distinct(args: FuncArgs) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for value in list_at(&args, 0) {
        if !kept.contains(value) {
            kept.push(value.clone());
        }
    }
    Ok(Value::Array(kept))
}

fn index(args: FuncArgs) -> Outcome {
    let found = match (args.first(), args.get(1)) {
        (Some(Value::Array(list)), Some(at)) => {
            at.as_u64().and_then(|at| list.get(usize::try_from(at).unwrap_or(usize::MAX))).cloned()
        }
        (Some(Value::Object(map)), Some(Value::String(key))) => map.get(key).cloned(),
        _ => None,
    };
    found.ok_or_else(|| "there is nothing at that place".to_owned())
}

fn lookup(args: FuncArgs) -> Outcome {
    let found = args.first().and_then(Value::as_object).and_then(|map| map.get(text_at(&args, 1)));
    Ok(found.or(args.get(2)).cloned().unwrap_or(Value::Null))
}

fn concat(args: FuncArgs) -> Outcome {
    let mut all = Vec::new();
    for value in args.iter() {
        all.extend(value.as_array().ok_or("it takes lists")?.iter().cloned());
    }
    Ok(Value::Array(all))
}

fn coalesce(args: FuncArgs) -> Outcome {
    let found = args.iter().find(|value| **value != Value::Null && value.as_str() != Some(""));
    found.cloned().ok_or_else(|| "all values are empty".to_owned())
}

fn merge(args: FuncArgs) -> Outcome {
    let mut all = hcl::Map::new();
    for value in args.iter() {
        all.extend(value.as_object().ok_or("it takes maps")?.clone());
    }
    Ok(Value::Object(all))
}

/// `%s`, `%d`, `%v` and `%%`.
fn format_text(args: FuncArgs) -> Outcome {
    let values: Vec<&Value> = args.iter().skip(1).collect();
    formatted(text_at(&args, 0), &values)
}

pub(super) fn formatted(format: &str, values: &[&Value]) -> Outcome {
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some('s' | 'd' | 'v') => out.push_str(&plain(values.next().ok_or("there are fewer values than verbs")?)?),
            other => return Err(format!("the verb `%{}` is not supported", other.map_or(String::new(), String::from))),
        }
    }
    Ok(Value::from(out))
}
