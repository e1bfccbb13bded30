//! From a template's text to its nodes.

use serde_json::Value;

use super::{Node, Operand, Pipeline};

/// Blocks inside blocks; more is no template that a person wrote.
const DEPTH_LIMIT: usize = 32;

enum Piece {
    Text(String),
    Action(String),
}

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Stop {
    Text,
    Else,
    End,
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter();
    match block(&mut pieces, 0)? {
        (nodes, Stop::Text) => Ok(nodes),
        _ => Err("the template has an {{end}} or {{else}} without its {{if}} or {{range}}".to_owned()),
    }
}

/// Splits at `{{` and `}}`; `{{-` and `-}}` eat the blanks beside them.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(before, after)| (before, Some(after)));
        let mut before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            pieces.push(Piece::Text(before.to_owned()));
            return Ok(pieces);
        };
        let end = closing(after).ok_or("the template has a {{ without its }}")?;
        let mut action = after.get(..end).unwrap_or_default();
        rest = after.get(end + 2..).unwrap_or_default();
        if let Some(inner) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = inner;
        }
        trim = false;
        if let Some(inner) = action.strip_suffix(" -") {
            trim = true;
            action = inner;
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Action(action.trim().to_owned()));
    }
}

/// Where the `}}` is that no quotes hold.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            None => {}
        }
    }
    // Quotes that never end must be told as such, by the lexer.
    quote.and_then(|_| text.find("}}"))
}

fn block(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, Stop), String> {
    if depth > DEPTH_LIMIT {
        return Err("the template's blocks are too deep".to_owned());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    nodes.push(Node::Text(text));
                }
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" => return Ok((nodes, Stop::End)),
            "else" if rest.is_empty() => return Ok((nodes, Stop::Else)),
            "else" => return Err("{{else if}} is not supported in templates".to_owned()),
            "range" | "if" => {
                let head = pipeline(rest)?;
                let (body, otherwise) = bodies(pieces, depth, word)?;
                nodes.push(if word == "if" {
                    Node::If { condition: head, body, otherwise }
                } else {
                    Node::Range { over: head, body, otherwise }
                });
            }
            "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(format!("{{{{{word}}}}} is not supported in templates"));
            }
            _ if action.starts_with("/*") => {}
            _ => nodes.push(Node::Show(pipeline(&action)?)),
        }
    }
    Ok((nodes, Stop::Text))
}

fn bodies(pieces: &mut std::vec::IntoIter<Piece>, depth: usize, word: &str) -> Result<(Vec<Node>, Vec<Node>), String> {
    let missing = || format!("the template has a {{{{{word}}}}} without its {{{{end}}}}");
    let (body, end) = block(pieces, depth + 1)?;
    match end {
        Stop::End => Ok((body, Vec::new())),
        Stop::Text => Err(missing()),
        Stop::Else => match block(pieces, depth + 1)? {
            (otherwise, Stop::End) => Ok((body, otherwise)),
            _ => Err(missing()),
        },
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Operand(Operand),
    Open,
    Close,
    Pipe,
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let mut tokens = tokens(text)?.into_iter();
    commands(&mut tokens, false, 0)
}

fn commands(tokens: &mut std::vec::IntoIter<Token>, grouped: bool, depth: usize) -> Result<Pipeline, String> {
    if depth > DEPTH_LIMIT {
        return Err("the template's parentheses are too deep".to_owned());
    }
    let mut pipeline: Pipeline = vec![Vec::new()];
    loop {
        let operand = match tokens.next() {
            None if grouped => return Err("the template has a ( without its )".to_owned()),
            Some(Token::Close) if !grouped => return Err("the template has a ) without its (".to_owned()),
            None | Some(Token::Close) => break,
            Some(Token::Pipe) => {
                pipeline.push(Vec::new());
                continue;
            }
            Some(Token::Open) => Operand::Group(commands(tokens, true, depth + 1)?),
            Some(Token::Operand(operand)) => operand,
        };
        if let Some(command) = pipeline.last_mut() {
            command.push(operand);
        }
    }
    if pipeline.iter().any(Vec::is_empty) {
        return Err("the template has an empty {{ }} or | in it".to_owned());
    }
    Ok(pipeline)
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            '"' | '`' => string(rest)?,
            _ => word(rest)?,
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
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
                Some((_, other)) => value.push(other),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(format!("the template has a quote without its end: {text}"))
}

fn word(text: &str) -> Result<(Token, usize), String> {
    let length = text.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(text.len());
    let word = text.get(..length).unwrap_or_default();
    let path = |text: &str| text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let operand = if let Some(fields) = word.strip_prefix('.') {
        Operand::Field(path(fields))
    } else if word == "$" {
        Operand::Root(Vec::new())
    } else if let Some(fields) = word.strip_prefix("$.") {
        Operand::Root(path(fields))
    } else if let Ok(number) = word.parse::<i64>() {
        Operand::Literal(number.into())
    } else if word == "true" || word == "false" {
        Operand::Literal((word == "true").into())
    } else if word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Operand::Function(word.to_owned())
    } else {
        return Err(format!("`{word}` is not supported in templates"));
    };
    Ok((Token::Operand(operand), length))
}
