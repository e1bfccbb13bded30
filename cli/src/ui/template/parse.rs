//! From a template's text to its nodes.

use super::tokens::{Token, tokens};
use super::{Head, Node, Operand, Pipeline};

/// Blocks inside blocks; more is no template that a person wrote.
const DEPTH_LIMIT: usize = 32;

enum Piece {
    Text(String),
    Action(String),
}

/// What ended a list of nodes.
enum Stop {
    Text,
    /// With what stands behind the word: nothing, or `if …` and `with …`.
    Else(String),
    End,
}

type Pieces = std::vec::IntoIter<Piece>;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter();
    match block(&mut pieces, 0)? {
        (nodes, Stop::Text) => Ok(nodes),
        _ => Err("the template has an {{end}} or {{else}} without its {{if}}, {{with}} or {{range}}".to_owned()),
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
        if let Some(inner) = action.strip_prefix('-').filter(|inner| inner.starts_with(char::is_whitespace)) {
            before = before.trim_end();
            action = inner;
        }
        trim = false;
        if let Some(inner) = action.strip_suffix('-').filter(|inner| inner.ends_with(char::is_whitespace)) {
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

fn block(pieces: &mut Pieces, depth: usize) -> Result<(Vec<Node>, Stop), String> {
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
            "else" => return Ok((nodes, Stop::Else(rest.trim().to_owned()))),
            "break" => nodes.push(Node::Break),
            "continue" => nodes.push(Node::Continue),
            "range" | "if" | "with" => nodes.push(opened(word, rest, pieces, depth)?),
            "define" | "template" | "block" => {
                return Err(format!("{{{{{word}}}}} is not supported in templates"));
            }
            _ if action.starts_with("/*") => {}
            _ => nodes.push(shown(&action)?),
        }
    }
    Ok((nodes, Stop::Text))
}

/// A block from behind its word to its `{{end}}`. What `{{else if}}` opens ends with the same one.
fn opened(word: &str, head: &str, pieces: &mut Pieces, depth: usize) -> Result<Node, String> {
    let missing = || format!("the template has a {{{{{word}}}}} without its {{{{end}}}}");
    let head = opening(head)?;
    let (body, stop) = block(pieces, depth + 1)?;
    let otherwise = match stop {
        Stop::End => Vec::new(),
        Stop::Text => return Err(missing()),
        Stop::Else(rest) if rest.is_empty() => match block(pieces, depth + 1)? {
            (otherwise, Stop::End) => otherwise,
            _ => return Err(missing()),
        },
        Stop::Else(rest) => match rest.split_once(char::is_whitespace) {
            Some((inner @ ("if" | "with"), rest)) if word != "range" => vec![opened(inner, rest, pieces, depth + 1)?],
            _ => return Err(format!("the template has an {{{{else {rest}}}}} that nothing begins")),
        },
    };
    Ok(match word {
        "if" => Node::If { condition: head, body, otherwise },
        "with" => Node::With { value: head, body, otherwise },
        _ => Node::Range { over: head, body, otherwise },
    })
}

/// `$i, $x := PIPELINE`, or a pipeline.
fn opening(text: &str) -> Result<Head, String> {
    let tokens = tokens(text)?;
    let declares = tokens.iter().position(|token| *token == Token::Declare);
    let Some(at) = declares else { return Ok(Head { names: Vec::new(), value: pipeline(tokens)? }) };
    let mut names = Vec::new();
    for token in tokens.iter().take(at).filter(|token| **token != Token::Comma) {
        match token {
            Token::Operand(Operand::Variable(name, path)) if path.is_empty() && !name.is_empty() => {
                names.push(name.clone());
            }
            _ => return Err(format!("the template declares what is no variable: {text}")),
        }
    }
    Ok(Head { names, value: pipeline(tokens.into_iter().skip(at + 1).collect())? })
}

fn shown(text: &str) -> Result<Node, String> {
    let tokens = tokens(text)?;
    match tokens.as_slice() {
        [Token::Operand(Operand::Variable(name, path)), sign @ (Token::Declare | Token::Assign), ..]
            if path.is_empty() && !name.is_empty() =>
        {
            let (name, new) = (name.clone(), *sign == Token::Declare);
            Ok(Node::Set { name, new, value: pipeline(tokens.into_iter().skip(2).collect())? })
        }
        _ => Ok(Node::Show(pipeline(tokens)?)),
    }
}

fn pipeline(tokens: Vec<Token>) -> Result<Pipeline, String> {
    commands(&mut tokens.into_iter().peekable(), false, 0)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn commands(tokens: &mut Tokens, grouped: bool, depth: usize) -> Result<Pipeline, String> {
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
            Some(Token::Open) => {
                let inner = commands(tokens, true, depth + 1)?;
                let path = match tokens.next_if(|token| matches!(token, Token::Path(_))) {
                    Some(Token::Path(path)) => path,
                    _ => Vec::new(),
                };
                Operand::Group(inner, path)
            }
            Some(Token::Operand(operand)) => operand,
            Some(Token::Path(_) | Token::Comma | Token::Declare | Token::Assign) => {
                return Err("the template has a `,`, `=` or `.` where none belongs".to_owned());
            }
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
