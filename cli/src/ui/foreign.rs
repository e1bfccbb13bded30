//! Text that a Dockerfile, an image or a program had a say in, made safe to show. Every such text goes through here.
//!
//! Escape sequences and control characters are taken out, and so are characters that reorder what is read. Words at
//! which a build service takes a line for a command (`##vso[`, `::set-output`) get a space that breaks them.

/// One line.
pub(crate) fn line(text: &str) -> String {
    let stripped = anstream::adapter::strip_str(text).to_string();
    let kept: String = stripped.chars().filter(|c| *c == '\t' || !is_unsafe(*c)).collect();
    defused(&kept)
}

/// Several lines.
pub(crate) fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// JSON that means the same and holds no such character or word.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        // `#` stands only in strings, where an escape means the same.
        if is_marker(rest) {
            out.push_str("\\u0023#");
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        if is_unsafe(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// Controls (C0, DEL, C1), and the marks that change the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `##[`, `##vso[`, `##teamcity[` and their like.
fn is_marker(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("##") else { return false };
    rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).starts_with('[')
}

/// Text that is shown with colours of ours: only the words are broken.
pub(crate) fn without_commands(text: &str) -> String {
    text.split('\n').map(defused).collect::<Vec<_>>().join("\n")
}

fn defused(text: &str) -> String {
    let begin = text.len() - text.trim_start().len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        out.push(c);
        let rest = text.get(at..).unwrap_or_default();
        let previous = at.checked_sub(1).and_then(|at| text.get(at..));
        if (at == begin && rest.starts_with("::")) || previous.is_some_and(is_marker) {
            out.push(' ');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn security_s18_no_text_steers_a_terminal_or_a_build_service() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{1b}[0m\u{7}\tx\u{1b}]0;title\u{7}", "red\tx"),
            ("\u{1b}]52;c;aGVsbG8=\u{7}copied", "copied"),
            ("\u{1b}[2J\u{1b}[Hclear", "clear"),
            ("one\rtwo", "onetwo"),
            ("\u{9b}31mC1", "31mC1"),
            ("a\u{202e}b", "ab"),
            ("##vso[task.setvariable variable=x]y", "## vso[task.setvariable variable=x]y"),
            ("a ##[command]rm", "a ## [command]rm"),
            ("##teamcity[x]", "## teamcity[x]"),
            ("::set-output name=x::y", ": :set-output name=x::y"),
            ("  ::warning::z", "  : :warning::z"),
            ("a::b #[derive] ## title", "a::b #[derive] ## title"),
        ] {
            assert_eq!(line(text), shown, "{text:?}");
        }
        assert_eq!(lines("a\n::b"), "a\n: :b");
    }

    #[test]
    fn security_s18_json_means_the_same() {
        let value = json!({"data": "##vso[x] \u{1b}[2J \u{9b} \u{202e} ## é ::set-output"});
        let text = json(&value);
        assert!(!text.contains("##vso") && !text.contains('\u{9b}') && !text.contains('\u{202e}'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }
}
