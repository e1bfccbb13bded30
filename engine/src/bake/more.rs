//! Further functions of project files: numbers, encodings, lists, patterns and times, by the names that bake has for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hcl::Value;
use hcl::eval::{Context, Func, FuncArgs, FuncDef, ParamType};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex_lite::Regex;

use super::functions::{formatted, list_at, plain, text_at};

type Outcome = Result<Value, String>;

/// Most numbers that `range` gives.
const RANGE_LIMIT: usize = 10_000;
/// Longest pattern.
const PATTERN_LIMIT: usize = 4096;

pub(super) fn declare(context: &mut Context<'_>) {
    let text = || ParamType::String;
    let any = || ParamType::Any;
    let number = || ParamType::Number;
    let list = || ParamType::array_of(ParamType::Any);
    let fixed: [(&str, Func, Vec<ParamType>); 39] = [
        ("add", |args| two(&args, |a, b| Some(a + b)), vec![number(), number()]),
        ("subtract", |args| two(&args, |a, b| Some(a - b)), vec![number(), number()]),
        ("multiply", |args| two(&args, |a, b| Some(a * b)), vec![number(), number()]),
        ("divide", |args| two(&args, |a, b| (b != 0.0).then(|| a / b)), vec![number(), number()]),
        ("modulo", |args| two(&args, |a, b| (b != 0.0).then(|| a % b)), vec![number(), number()]),
        ("negate", |args| Ok(from_float(-float(&args, 0))), vec![number()]),
        ("absolute", |args| Ok(from_float(float(&args, 0).abs())), vec![number()]),
        ("ceil", |args| Ok(from_float(float(&args, 0).ceil())), vec![number()]),
        ("floor", |args| Ok(from_float(float(&args, 0).floor())), vec![number()]),
        ("int", |args| Ok(from_float(float(&args, 0).trunc())), vec![number()]),
        ("greaterthan", |args| Ok((float(&args, 0) > float(&args, 1)).into()), vec![number(), number()]),
        ("greaterthanorequalto", |args| Ok((float(&args, 0) >= float(&args, 1)).into()), vec![number(), number()]),
        ("lessthan", |args| Ok((float(&args, 0) < float(&args, 1)).into()), vec![number(), number()]),
        ("lessthanorequalto", |args| Ok((float(&args, 0) <= float(&args, 1)).into()), vec![number(), number()]),
        ("parseint", parse_int, vec![text(), number()]),
        ("base64encode", |args| Ok(STANDARD.encode(text_at(&args, 0)).into()), vec![text()]),
        ("base64decode", base64_decode, vec![text()]),
        ("sha256", |args| Ok(cache::Digest::sha256_of(text_at(&args, 0).as_bytes()).hex().into()), vec![text()]),
        ("urlencode", |args| Ok(url_encode(text_at(&args, 0)).into()), vec![text()]),
        ("jsonencode", json_encode, vec![any()]),
        ("jsondecode", json_decode, vec![text()]),
        ("chomp", |args| Ok(text_at(&args, 0).trim_end_matches(['\n', '\r']).into()), vec![text()]),
        ("indent", |args| Ok(indent(float(&args, 0), text_at(&args, 1)).into()), vec![number(), text()]),
        ("reverse", |args| Ok(text_at(&args, 0).chars().rev().collect::<String>().into()), vec![text()]),
        ("basename", |args| Ok(last_part(text_at(&args, 0)).1.into()), vec![text()]),
        ("dirname", |args| Ok(last_part(text_at(&args, 0)).0.into()), vec![text()]),
        ("compact", |args| Ok(kept(&args, |value| *value != Value::Null && value.as_str() != Some(""))), vec![list()]),
        ("flatten", |args| Ok(flat(list_at(&args, 0)).into()), vec![list()]),
        ("element", element, vec![list(), number()]),
        ("slice", slice, vec![list(), number(), number()]),
        ("sort", sort, vec![list()]),
        ("hasindex", |args| Ok(has_index(&args).into()), vec![any(), any()]),
        ("indexof", index_of, vec![list(), any()]),
        ("zipmap", zip_map, vec![list(), list()]),
        (
            "regex",
            |args| matches(&args).map(|found| found.into_iter().next().unwrap_or(Value::Null)),
            vec![text(), text()],
        ),
        ("regexall", |args| matches(&args).map(Value::Array), vec![text(), text()]),
        ("regex_replace", regex_replace, vec![text(), text(), text()]),
        ("timestamp", |_| Ok(now().to_string().into()), vec![]),
        ("formatdate", format_date, vec![text(), text()]),
    ];
    for (name, function, params) in fixed {
        context.declare_func(name, FuncDef::new(function, params));
    }
    let several: [(&str, Func); 5] = [
        ("formatlist", format_list),
        ("min", |args| extreme(&args, f64::min)),
        ("max", |args| extreme(&args, f64::max)),
        ("range", range),
        ("coalescelist", |args| {
            let full = args.iter().find(|list| list.as_array().is_some_and(|list| !list.is_empty()));
            full.cloned().ok_or_else(|| "all lists are empty".to_owned())
        }),
    ];
    for (name, function) in several {
        context.declare_func(name, FuncDef::builder().variadic_param(ParamType::Any).build(function));
    }
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn float(args: &FuncArgs, at: usize) -> f64 {
    args.get(at).and_then(Value::as_f64).unwrap_or(0.0)
}

/// A whole number is shown as one.
fn from_float(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

fn two(args: &FuncArgs, of: impl Fn(f64, f64) -> Option<f64>) -> Outcome {
    of(float(args, 0), float(args, 1)).map(from_float).ok_or_else(|| "there is no division by zero".to_owned())
}

fn extreme(args: &FuncArgs, of: impl Fn(f64, f64) -> f64) -> Outcome {
    let numbers: Option<Vec<f64>> = args.iter().map(Value::as_f64).collect();
    let found = numbers.ok_or("it takes numbers")?.into_iter().reduce(of);
    found.map(from_float).ok_or_else(|| "it takes at least one number".to_owned())
}

fn parse_int(args: FuncArgs) -> Outcome {
    let (text, base) = (text_at(&args, 0), float(&args, 1));
    if !(2.0..=36.0).contains(&base) {
        return Err("the base must be 2 to 36".to_owned());
    }
    i64::from_str_radix(text, base as u32).map(Value::from).map_err(|_| format!("`{text}` is no number of base {base}"))
}

fn base64_decode(args: FuncArgs) -> Outcome {
    let bytes = STANDARD.decode(text_at(&args, 0)).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map(Value::from).map_err(|_| "what it holds is no text".to_owned())
}

fn url_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encoded = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn json_encode(args: FuncArgs) -> Outcome {
    serde_json::to_string(&args.first()).map(Value::from).map_err(|error| error.to_string())
}

fn json_decode(args: FuncArgs) -> Outcome {
    let data: serde_json::Value = serde_json::from_str(text_at(&args, 0)).map_err(|error| error.to_string())?;
    hcl::to_value(data).map_err(|error| error.to_string())
}

/// All lines but the first, as bake has it.
fn indent(by: f64, text: &str) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by.clamp(0.0, 1000.0) as usize)))
}

/// A path's directory and its last part.
fn last_part(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => (".", path),
    }
}

fn kept(args: &FuncArgs, keep: impl Fn(&Value) -> bool) -> Value {
    list_at(args, 0).iter().filter(|value| keep(value)).cloned().collect()
}

fn flat(list: &[Value]) -> Vec<Value> {
    let inner = |value: &Value| match value {
        Value::Array(list) => flat(list),
        other => vec![other.clone()],
    };
    list.iter().flat_map(inner).collect()
}

fn place(args: &FuncArgs, at: usize) -> Result<usize, String> {
    let number = args.get(at).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| "a place in a list is a number from 0".to_owned())
}

/// Past the end it begins again.
fn element(args: FuncArgs) -> Outcome {
    let list = list_at(&args, 0);
    let at = place(&args, 1)?.checked_rem(list.len()).ok_or("the list is empty")?;
    Ok(list.get(at).cloned().unwrap_or(Value::Null))
}

fn slice(args: FuncArgs) -> Outcome {
    let part = list_at(&args, 0).get(place(&args, 1)?..place(&args, 2)?);
    part.map(|part| part.to_vec().into()).ok_or_else(|| "it reaches beyond the list".to_owned())
}

fn sort(args: FuncArgs) -> Outcome {
    let mut texts: Vec<String> = list_at(&args, 0).iter().map(plain).collect::<Result<_, _>>()?;
    texts.sort();
    Ok(texts.into_iter().map(Value::from).collect())
}

fn has_index(args: &FuncArgs) -> bool {
    match (args.first(), args.get(1)) {
        (Some(Value::Array(list)), Some(_)) => place(args, 1).is_ok_and(|at| at < list.len()),
        (Some(Value::Object(map)), Some(Value::String(key))) => map.contains_key(key),
        _ => false,
    }
}

fn index_of(args: FuncArgs) -> Outcome {
    let at = list_at(&args, 0).iter().position(|value| Some(value) == args.get(1));
    at.map(|at| Value::from(at as u64)).ok_or_else(|| "it is not in the list".to_owned())
}

fn zip_map(args: FuncArgs) -> Outcome {
    let (keys, values) = (list_at(&args, 0), list_at(&args, 1));
    if keys.len() != values.len() {
        return Err(format!("there are {} keys and {} values", keys.len(), values.len()));
    }
    let pairs: Result<Vec<_>, String> =
        keys.iter().zip(values).map(|(key, value)| Ok((plain(key)?, value.clone()))).collect();
    Ok(Value::Object(pairs?.into_iter().collect()))
}

fn range(args: FuncArgs) -> Outcome {
    let numbers: Vec<f64> =
        args.iter().map(|value| value.as_f64().ok_or("it takes numbers")).collect::<Result<_, _>>()?;
    let (from, to, step) = match numbers.as_slice() {
        [to] => (0.0, *to, if *to < 0.0 { -1.0 } else { 1.0 }),
        [from, to] => (*from, *to, if to < from { -1.0 } else { 1.0 }),
        [from, to, step] => (*from, *to, *step),
        _ => return Err("it takes one to three numbers".to_owned()),
    };
    if step == 0.0 || (step > 0.0) != (to > from) && to != from {
        return Err("its step leads away from its end".to_owned());
    }
    let inside = |value: &f64| if step > 0.0 { *value < to } else { *value > to };
    let all = std::iter::successors(Some(from), |value| Some(value + step)).take_while(inside);
    let values: Vec<Value> = all.take(RANGE_LIMIT + 1).map(from_float).collect();
    if values.len() > RANGE_LIMIT {
        return Err(format!("it has more than {RANGE_LIMIT} numbers"));
    }
    Ok(values.into())
}

/// `format` for each item of the lists among its arguments; the others are the same each time.
fn format_list(args: FuncArgs) -> Outcome {
    let lists = args.iter().skip(1).filter_map(Value::as_array).map(Vec::len);
    let count = lists.clone().max().unwrap_or(1);
    if lists.clone().any(|length| length != count) {
        return Err("its lists are not of the same length".to_owned());
    }
    let one = |at: usize| {
        let mut values: Vec<&Value> = Vec::new();
        for value in args.iter().skip(1) {
            values.push(value.as_array().map_or(Some(value), |list| list.get(at)).unwrap_or(&Value::Null));
        }
        formatted(text_at(&args, 0), &values)
    };
    (0..count).map(one).collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_LIMIT {
        return Err("the pattern is too long".to_owned());
    }
    Regex::new(text).map_err(|error| format!("the pattern `{text}`: {error}"))
}

/// As bake gives a match: the text, the list of its groups, or the map of those that have names.
fn matches(args: &FuncArgs) -> Result<Vec<Value>, String> {
    let pattern = pattern(text_at(args, 0))?;
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    let shown = |found: regex_lite::Captures<'_>| {
        let group = |at: usize| found.get(at).map_or(Value::Null, |part| Value::from(part.as_str()));
        if names.is_empty() {
            group(0)
        } else if names.iter().all(Option::is_some) {
            let named = names.iter().enumerate().filter_map(|(at, name)| Some(((*name)?.to_owned(), group(at + 1))));
            Value::Object(named.collect())
        } else {
            (1..=names.len()).map(group).collect()
        }
    };
    Ok(pattern.captures_iter(text_at(args, 1)).map(shown).collect())
}

fn regex_replace(args: FuncArgs) -> Outcome {
    let replaced = pattern(text_at(&args, 1))?.replace_all(text_at(&args, 0), text_at(&args, 2)).into_owned();
    Ok(replaced.into())
}

/// `formatdate("YYYY-MM-DD", timestamp())`: letters of one kind are a part of the time, quotes hold what is none.
fn format_date(args: FuncArgs) -> Outcome {
    let time = text_at(&args, 1).parse::<Timestamp>().map_err(|_| format!("`{}` is no time", text_at(&args, 1)))?;
    let time = TimeZone::UTC.to_datetime(time);
    let mut letters = text_at(&args, 0).chars().peekable();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        if letter == '\'' {
            out.extend(letters.by_ref().take_while(|letter| *letter != '\''));
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            out.push(letter);
            continue;
        }
        let mut part = letter.to_string();
        while letters.peek() == Some(&letter) {
            part.extend(letters.next());
        }
        let directive = match part.as_str() {
            "YYYY" => "%Y",
            "YY" => "%y",
            "MMMM" => "%B",
            "MMM" => "%b",
            "MM" => "%m",
            "M" => "%-m",
            "DD" => "%d",
            "D" => "%-d",
            "EEEE" => "%A",
            "EEE" => "%a",
            "hh" => "%H",
            "h" => "%-H",
            "HH" => "%I",
            "H" => "%-I",
            "AA" => "%p",
            "aa" => "%P",
            "mm" => "%M",
            "m" => "%-M",
            "ss" => "%S",
            "s" => "%-S",
            "ZZZZZ" => "+00:00",
            "ZZZZ" => "+0000",
            "ZZZ" => "UTC",
            "Z" => "Z",
            other => return Err(format!("`{other}` is no part of a date")),
        };
        out.push_str(&time.strftime(directive).to_string());
    }
    Ok(out.into())
}
