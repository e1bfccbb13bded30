//! `printf` of templates, with Go's verbs.

use serde_json::Value;

use super::eval::show;

/// What stands between `%` and the verb.
#[derive(Default)]
struct Form {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// No screen is wider, and a template must not take all memory.
const WIDEST: usize = 4096;

pub(super) fn printf(arguments: &[Value]) -> Result<String, String> {
    let Some((format, rest)) = arguments.split_first() else {
        return Err("the template's `printf` needs a format".to_owned());
    };
    let format = show(format);
    let mut values = rest.iter();
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let form = form(&mut chars)?;
        match chars.next() {
            Some('%') => out.push('%'),
            Some(verb) => {
                let value = values.next().ok_or("the template's `printf` has too few arguments")?;
                out.push_str(&placed(&text(verb, value, &form)?, value, &form));
            }
            None => return Err("the template's `printf` ends in the middle of a verb".to_owned()),
        }
    }
    Ok(out)
}

fn form(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Form, String> {
    let mut form = Form::default();
    while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
        match flag {
            '-' => form.left = true,
            '0' => form.zeros = true,
            '+' => form.plus = true,
            _ => {}
        }
    }
    let mut number = || {
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
        let dot = chars.next_if_eq(&'.').is_some();
        if number > WIDEST {
            Err(format!("the template's `printf` asks for {digits} places"))
        } else {
            Ok((number, dot))
        }
    };
    let (width, dot) = number()?;
    form.width = width;
    if dot {
        form.precision = Some(number()?.0);
    }
    Ok(form)
}

fn text(verb: char, value: &Value, form: &Form) -> Result<String, String> {
    let cut = |text: String| match form.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text,
    };
    let sign = |text: String| if form.plus && !text.starts_with('-') { format!("+{text}") } else { text };
    match (verb, value) {
        ('s' | 'v', Value::Number(number)) => Ok(sign(number.to_string())),
        ('s' | 'v', value) => Ok(cut(show(value))),
        ('q', value) => Ok(format!("{:?}", cut(show(value)))),
        ('d', Value::Number(number)) => Ok(sign(number.to_string())),
        ('t', Value::Bool(value)) => Ok(value.to_string()),
        ('x', Value::Number(number)) => {
            number.as_i64().map(|number| format!("{number:x}")).ok_or_else(|| unfit(verb, value))
        }
        ('x', Value::String(text)) => Ok(text.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ('f', Value::Number(number)) => {
            Ok(sign(format!("{:.*}", form.precision.unwrap_or(6), number.as_f64().unwrap_or_default())))
        }
        ('d' | 't' | 'x' | 'f', value) => Err(unfit(verb, value)),
        (verb, _) => {
            Err(format!("the template's `printf` has the verb %{verb}, and %s %v %d %q %t %x %f %% are known"))
        }
    }
}

fn unfit(verb: char, value: &Value) -> String {
    format!("the template's `printf` cannot write {} as %{verb}", show(value))
}

fn placed(text: &str, value: &Value, form: &Form) -> String {
    let missing = form.width.saturating_sub(text.chars().count());
    match text.strip_prefix(['-', '+']) {
        _ if form.left => format!("{text}{}", " ".repeat(missing)),
        Some(digits) if form.zeros && value.is_number() => {
            format!("{}{}{digits}", text.get(..1).unwrap_or_default(), "0".repeat(missing))
        }
        None if form.zeros && value.is_number() => format!("{}{text}", "0".repeat(missing)),
        _ => format!("{}{text}", " ".repeat(missing)),
    }
}
