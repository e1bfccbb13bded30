//! The words inside of `{{ }}`.

use serde_json::Value;

use super::Operand;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Operand(Operand),
    /// A path right behind a `)`.
    Path(Vec<String>),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    let mut closed = false;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' | '`' => string(rest)?,
            '.' if closed => {
                let length = word_end(rest);
                (Token::Path(path(rest.get(..length).unwrap_or_default())?), length)
            }
            _ => word(rest)?,
        };
        closed = token == Token::Close;
        tokens.push(token);
        let behind = rest.get(length..).unwrap_or_default();
        rest = behind.trim_start();
        closed &= rest.len() == behind.len();
    }
    Ok(tokens)
}

fn string(text: &str) -> Result<(Token, usize), String> {
    let quote = text.chars().next().unwrap_or('"');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Operand(Operand::Literal(Value::String(value))), at + 1)),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(format!("the template has a quote without its end: {text}"))
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || "()|\"`,=".contains(c) || c == ':').unwrap_or(text.len())
}

fn word(text: &str) -> Result<(Token, usize), String> {
    let length = word_end(text);
    let word = text.get(..length).unwrap_or_default();
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let operand = if word.starts_with('.') {
        Operand::Field(path(word)?)
    } else if let Some(rest) = word.strip_prefix('$') {
        let at = rest.find('.').unwrap_or(rest.len());
        let (name, fields) = rest.split_at(at);
        if !is_name(name) {
            return Err(format!("`{word}` is no name of a variable"));
        }
        Operand::Variable(name.to_owned(), path(fields)?)
    } else if let Ok(number) = word.parse::<i64>() {
        Operand::Literal(number.into())
    } else if let Some(number) =
        word.parse::<f64>().ok().filter(|_| word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    {
        Operand::Literal(number.into())
    } else if word == "true" || word == "false" {
        Operand::Literal((word == "true").into())
    } else if word == "nil" {
        Operand::Literal(Value::Null)
    } else if is_name(word) && !word.is_empty() {
        Operand::Function(word.to_owned())
    } else {
        let shown = if word.is_empty() { text } else { word };
        return Err(format!("`{shown}` means nothing in a template"));
    };
    Ok((Token::Operand(operand), length))
}

/// `.A.B`, or nothing.
fn path(text: &str) -> Result<Vec<String>, String> {
    let Some(fields) = text.strip_prefix('.').filter(|fields| !fields.is_empty()) else { return Ok(Vec::new()) };
    let path: Vec<String> = fields.split('.').map(str::to_owned).collect();
    match path.iter().all(|part| part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.is_empty()) {
        true => Ok(path),
        false => {
            Err(format!("`{text}` is no field; names with other characters are had by {{{{index .Labels \"a.b\"}}}}"))
        }
    }
}
