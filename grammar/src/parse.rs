//! Logical lines to instructions. A line that is wrong becomes a diagnostic, and parsing goes on with the next one.

use crate::diagnostic::Diagnostic;
use crate::instruction::{
    ArgDeclaration, CommandLine, Copy, CopySource, Dockerfile, Healthcheck, Instruction, KeyValue, Located, MountFlag,
    Onbuild, Run, Stage,
};
use crate::lines::{self, Logical, split_words};
use crate::nearest::nearest;
use crate::source::{Source, Span};
use crate::values::parse_duration;
use crate::word::Word;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A text that was read, as far as it could be.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What could be read.
    pub dockerfile: Dockerfile,
    /// What was wrong. With an error among them the tree must not be built.
    pub diagnostics: Vec<Diagnostic>,
}

type Result<T> = std::result::Result<T, Diagnostic>;

/// Reads a Dockerfile. Never fails as a whole.
pub fn parse(source: &Source) -> Parsed {
    let lines = lines::read(source);
    let escape = lines.escape.unwrap_or('\\');
    let mut dockerfile = Dockerfile {
        source: source.clone(),
        escape,
        directives: lines.directives,
        global_args: Vec::new(),
        stages: Vec::new(),
    };
    let mut diagnostics = lines.diagnostics;
    if lines.logical.is_empty() && diagnostics.is_empty() {
        let help = "begin it with a FROM line: `FROM scratch` needs no base image";
        diagnostics.push(
            Diagnostic::error("K0105", "the Dockerfile has no instructions").at(source, Span::default()).help(help),
        );
    }
    for logical in &lines.logical {
        let line = Line { source, logical, escape };
        if let Err(diagnostic) = line.into_tree(&mut dockerfile) {
            diagnostics.push(diagnostic);
        }
    }
    Parsed { dockerfile, diagnostics }
}

/// Reads one ONBUILD trigger as an image's configuration holds it.
///
/// # Errors
/// What is wrong with it.
pub fn parse_trigger(text: &str) -> std::result::Result<Located<Instruction>, Vec<Diagnostic>> {
    let source = Source::new("ONBUILD", text);
    let lines = lines::read(&source);
    let [logical] = lines.logical.as_slice() else {
        return Err(vec![
            Diagnostic::error("K0106", "an ONBUILD trigger must be one instruction").at(&source, Span::default()),
        ]);
    };
    if !lines.diagnostics.is_empty() {
        return Err(lines.diagnostics);
    }
    let line = Line { source: &source, logical, escape: '\\' };
    let (keyword, rest) = line.keyword();
    let value = line.instruction(&keyword, rest).map_err(|diagnostic| vec![diagnostic])?;
    Ok(Located { value, span: logical.span, original: line.original() })
}

/// One logical line being read. Offsets are those of its text.
#[derive(Clone, Copy)]
struct Line<'a> {
    source: &'a Source,
    logical: &'a Logical,
    escape: char,
}

/// Flags at the head of an instruction, and where the rest begins.
struct Flags {
    found: Vec<Flag>,
    rest: usize,
}

struct Flag {
    name: String,
    value: Option<String>,
    start: usize,
    end: usize,
}

impl<'a> Line<'a> {
    fn text(self) -> &'a str {
        &self.logical.text
    }

    fn original(self) -> String {
        self.text().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn error(self, code: &'static str, start: usize, end: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message).at(self.source, self.logical.place(start, end))
    }

    fn whole(self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message).at(self.source, self.logical.line_span)
    }

    fn word(self, start: usize, end: usize) -> Word {
        Word::new(self.text().get(start..end).unwrap_or_default(), self.escape, self.logical.place(start, end))
    }

    /// The keyword in capitals, and where the rest begins.
    fn keyword(self) -> (String, usize) {
        let text = self.text();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let rest = text.get(end..).unwrap_or_default();
        (text.get(..end).unwrap_or_default().to_uppercase(), end + rest.len() - rest.trim_start().len())
    }

    fn into_tree(self, dockerfile: &mut Dockerfile) -> Result<()> {
        let (keyword, rest) = self.keyword();
        let original = self.original();
        if keyword == "FROM" {
            let stage = self.from(rest, dockerfile.stages.len())?;
            dockerfile.stages.push(stage);
            return Ok(());
        }
        let value = self.instruction(&keyword, rest)?;
        let span = self.logical.span;
        match (dockerfile.stages.last_mut(), value) {
            (Some(stage), value) => stage.instructions.push(Located { value, span, original }),
            (None, Instruction::Arg(value)) => dockerfile.global_args.push(Located { value, span, original }),
            (None, _) => {
                return Err(self
                    .whole("K0107", "no build stage in current context")
                    .label("before the first FROM only ARG may stand")
                    .help("begin the file with FROM"));
            }
        }
        Ok(())
    }

    fn from(self, rest: usize, index: usize) -> Result<Stage> {
        let flags = self.flags(rest, &["platform"])?;
        let words = self.words(flags.rest);
        let platform = flags.take("platform").map(|flag| self.flag_word(flag));
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, (start, end), name]
                if self.text().get(*start..*end).is_some_and(|word| word.eq_ignore_ascii_case("as")) =>
            {
                (base, Some(self.stage_name(name.0, name.1)?))
            }
            _ => {
                return Err(self
                    .whole("K0110", "FROM requires either one or three arguments")
                    .help("write `FROM image` or `FROM image AS name`"));
            }
        };
        let base = self.word(base.0, base.1);
        Ok(Stage {
            index,
            name,
            base_span: base.span(),
            base,
            platform,
            span: self.logical.span,
            original: self.original(),
            instructions: Vec::new(),
        })
    }

    fn stage_name(self, start: usize, end: usize) -> Result<String> {
        let name = self.text().get(start..end).unwrap_or_default().to_lowercase();
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
        if !valid {
            let message =
                format!("invalid name for build stage: \"{name}\", name can't start with a number or contain symbols");
            return Err(self
                .error("K0111", start, end, message)
                .help("names begin with a letter and hold letters, digits, `-`, `_` and `.`"));
        }
        Ok(name)
    }

    fn instruction(self, keyword: &str, rest: usize) -> Result<Instruction> {
        let empty = self.text().get(rest..).unwrap_or_default().trim().is_empty();
        if empty && KEYWORDS.contains(&keyword) && !matches!(keyword, "CMD" | "ENTRYPOINT" | "RUN") {
            return Err(self.whole("K0112", format!("{keyword} requires at least one argument")));
        }
        Ok(match keyword {
            "ADD" => Instruction::Add(self.copy(rest, keyword)?),
            "COPY" => Instruction::Copy(self.copy(rest, keyword)?),
            "ARG" => Instruction::Arg(self.arg(rest)?),
            "CMD" => Instruction::Cmd(self.command(rest, keyword)?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(rest, keyword)?),
            "ENV" => Instruction::Env(self.pairs(rest, keyword)?),
            "LABEL" => Instruction::Label(self.pairs(rest, keyword)?),
            "EXPOSE" => {
                Instruction::Expose(self.words(rest).into_iter().map(|(start, end)| self.word(start, end)).collect())
            }
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck(rest)?),
            "MAINTAINER" => Instruction::Maintainer(self.text().get(rest..).unwrap_or_default().trim().to_owned()),
            "ONBUILD" => Instruction::Onbuild(self.onbuild(rest)?),
            "RUN" => Instruction::Run(self.run(rest)?),
            "SHELL" => match self.json(rest, keyword)? {
                Some(shell) if !shell.is_empty() => Instruction::Shell(shell),
                _ => {
                    return Err(self
                        .whole("K0113", "SHELL requires the arguments to be in JSON form")
                        .help("write `SHELL [\"/bin/sh\", \"-c\"]`"));
                }
            },
            "STOPSIGNAL" => Instruction::Stopsignal(self.rest_word(rest)),
            "USER" => Instruction::User(self.rest_word(rest)),
            "WORKDIR" => Instruction::Workdir(self.rest_word(rest)),
            "VOLUME" => Instruction::Volume(self.list(rest, keyword)?),
            _ => return Err(self.unknown(keyword)),
        })
    }

    fn unknown(self, keyword: &str) -> Diagnostic {
        let end = self.text().find(char::is_whitespace).unwrap_or(self.text().len());
        let diagnostic = self.error("K0114", 0, end, format!("unknown instruction: {keyword}"));
        match nearest(keyword, KEYWORDS) {
            Some(known) => diagnostic.help(format!("did you mean `{known}`?")),
            None => diagnostic.help("a line that goes on from the one before it needs a `\\` at that one's end"),
        }
    }

    /// All that is left, as one word.
    fn rest_word(self, rest: usize) -> Word {
        self.word(rest, self.text().trim_end().len().max(rest))
    }

    fn words(self, from: usize) -> Vec<(usize, usize)> {
        let text = self.text().get(from..).unwrap_or_default();
        split_words(text, self.escape).into_iter().map(|(start, end)| (start + from, end + from)).collect()
    }

    /// Words parted at blanks alone: COPY, ADD and VOLUME know no quotes.
    fn plain_words(self, from: usize) -> Vec<(usize, usize)> {
        let text = self.text();
        let mut words = Vec::new();
        let mut start = None;
        for (at, c) in text.char_indices().skip_while(|(at, _)| *at < from) {
            match (c.is_whitespace(), start) {
                (true, Some(first)) => {
                    words.push((first, at));
                    start = None;
                }
                (false, None) => start = Some(at),
                _ => {}
            }
        }
        words.extend(start.map(|first| (first, text.len())));
        words
    }

    /// The JSON form; `None` for anything that is no valid JSON array, which then is shell text.
    fn json(self, rest: usize, keyword: &str) -> Result<Option<Vec<String>>> {
        let text = self.text().get(rest..).unwrap_or_default().trim();
        if !text.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
        values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Ok(text),
                other => Err(self
                    .whole("K0115", format!("only string type is allowed in JSON format arrays: {keyword} has {other}"))
                    .help(format!("write it with quotes: \"{other}\""))),
            })
            .collect::<Result<Vec<String>>>()
            .map(Some)
    }

    fn list(self, rest: usize, keyword: &str) -> Result<Vec<Word>> {
        if let Some(values) = self.json(rest, keyword)? {
            return Ok(values
                .iter()
                .map(|value| Word::new(value.as_str(), self.escape, self.logical.line_span))
                .collect());
        }
        Ok(self.plain_words(rest).into_iter().map(|(start, end)| self.word(start, end)).collect())
    }

    fn command(self, rest: usize, keyword: &str) -> Result<CommandLine> {
        if let Some(argv) = self.json(rest, keyword)? {
            return Ok(CommandLine::Exec(argv));
        }
        Ok(CommandLine::Shell(self.text().get(rest..).unwrap_or_default().trim_end().to_owned()))
    }

    fn arg(self, rest: usize) -> Result<Vec<ArgDeclaration>> {
        self.words(rest)
            .into_iter()
            .map(|(start, end)| {
                let text = self.text().get(start..end).unwrap_or_default();
                let (name, default) = match text.find('=') {
                    Some(at) => (text.get(..at).unwrap_or_default(), Some(self.word(start + at + 1, end))),
                    None => (text, None),
                };
                if name.is_empty() {
                    return Err(self.error("K0116", start, end, "ARG names can not be blank"));
                }
                Ok(ArgDeclaration { name: name.to_owned(), default, span: self.logical.place(start, end) })
            })
            .collect()
    }

    /// `k=v …`, or the old form `k rest of line` that takes one pair.
    fn pairs(self, rest: usize, keyword: &str) -> Result<Vec<KeyValue>> {
        let words = self.words(rest);
        let text = self.text();
        let Some((first_start, first_end)) = words.first().copied() else {
            return Err(self.whole("K0112", format!("{keyword} requires at least one argument")));
        };
        if !text.get(first_start..first_end).unwrap_or_default().contains('=') {
            let Some((value_start, _)) = words.get(1).copied() else {
                return Err(self
                    .whole("K0117", format!("{keyword} must have two arguments"))
                    .help(format!("write `{keyword} NAME=VALUE`")));
            };
            let end = text.trim_end().len();
            let pair = KeyValue {
                key: self.word(first_start, first_end),
                value: self.word(value_start, end),
                span: self.logical.place(first_start, end),
            };
            return Ok(vec![pair]);
        }
        words
            .into_iter()
            .map(|(start, end)| {
                let word = text.get(start..end).unwrap_or_default();
                let Some(at) = word.find('=') else {
                    return Err(self
                        .error(
                            "K0118",
                            start,
                            end,
                            format!("Syntax error - can't find = in \"{word}\". Must be of the form: name=value"),
                        )
                        .help("quote a value that has blanks: NAME=\"two words\""));
                };
                if at == 0 {
                    return Err(self.error("K0116", start, end, format!("{keyword} names can not be blank")));
                }
                Ok(KeyValue {
                    key: self.word(start, start + at),
                    value: self.word(start + at + 1, end),
                    span: self.logical.place(start, end),
                })
            })
            .collect()
    }

    fn run(self, rest: usize) -> Result<Run> {
        let flags = self.flags(rest, &["mount", "network", "security", "device"])?;
        let command = self.command(flags.rest, "RUN")?;
        let text = |name: &str| flags.take(name).and_then(|flag| flag.value.clone());
        Ok(Run {
            command,
            heredocs: self.logical.heredocs.clone(),
            mounts: flags
                .all("mount")
                .map(|flag| MountFlag {
                    text: flag.value.clone().unwrap_or_default(),
                    span: self.logical.place(flag.start, flag.end),
                })
                .collect(),
            network: text("network"),
            security: text("security"),
            devices: flags.all("device").filter_map(|flag| flag.value.clone()).collect(),
        })
    }

    fn copy(self, rest: usize, keyword: &str) -> Result<Copy> {
        const COPY: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
        const ADD: [&str; 7] = ["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"];
        let flags = self.flags(rest, if keyword == "ADD" { &ADD } else { &COPY })?;
        let list = match self.json(flags.rest, keyword)? {
            Some(values) => {
                values.iter().map(|value| Word::new(value.as_str(), self.escape, self.logical.line_span)).collect()
            }
            None => {
                self.plain_words(flags.rest).into_iter().map(|(start, end)| self.word(start, end)).collect::<Vec<_>>()
            }
        };
        let Some((destination, sources)) = list.split_last().filter(|(_, sources)| !sources.is_empty()) else {
            return Err(self
                .whole("K0119", format!("{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"))
                .help(format!("write `{keyword} SOURCE DESTINATION`")));
        };
        let mut heredocs = self.logical.heredocs.iter();
        let sources = sources
            .iter()
            .map(|word| match lines::opener(word.raw()).and_then(|_| heredocs.next()) {
                Some(heredoc) => CopySource::Heredoc(heredoc.clone()),
                None => CopySource::Path(word.clone(), word.span()),
            })
            .collect();
        let word = |name: &str| flags.take(name).map(|flag| self.flag_word(flag));
        Ok(Copy {
            from: word("from"),
            sources,
            destination: destination.clone(),
            destination_span: destination.span(),
            chown: word("chown"),
            chmod: word("chmod"),
            link: self.flag_bool(&flags, "link")?.unwrap_or(false),
            parents: self.flag_bool(&flags, "parents")?.unwrap_or(false),
            exclude: flags.all("exclude").filter_map(|flag| flag.value.clone()).collect(),
            checksum: word("checksum"),
            keep_git_dir: self.flag_bool(&flags, "keep-git-dir")?,
            unpack: self.flag_bool(&flags, "unpack")?,
        })
    }

    fn healthcheck(self, rest: usize) -> Result<Healthcheck> {
        let flags = self.flags(rest, &["interval", "timeout", "start-period", "start-interval", "retries"])?;
        let text = self.text().get(flags.rest..).unwrap_or_default();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = text.get(..end).unwrap_or_default().to_uppercase();
        let after = flags.rest + end + text.get(end..).map_or(0, |rest| rest.len() - rest.trim_start().len());
        match kind.as_str() {
            "NONE" if self.text().get(after..).unwrap_or_default().trim().is_empty() => return Ok(Healthcheck::None),
            "NONE" => return Err(self.whole("K0120", "HEALTHCHECK NONE takes no arguments")),
            "CMD" => {}
            _ => {
                return Err(self
                    .whole("K0121", format!("Unknown type \"{kind}\" in HEALTHCHECK (try CMD)"))
                    .help("write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`"));
            }
        }
        let command = self.command(after, "HEALTHCHECK")?;
        if matches!(&command, CommandLine::Shell(text) if text.is_empty()) {
            return Err(self.whole("K0122", "Missing command after HEALTHCHECK CMD"));
        }
        let duration = |name: &str| self.flag_duration(&flags, name);
        let retries =
            match flags.take("retries") {
                Some(flag) => Some(flag.value.as_deref().unwrap_or_default().parse::<u32>().map_err(|_| {
                    self.error("K0123", flag.start, flag.end, "--retries must be a whole number from 0")
                })?),
                None => None,
            };
        Ok(Healthcheck::Test {
            command,
            interval: duration("interval")?,
            timeout: duration("timeout")?,
            start_period: duration("start-period")?,
            start_interval: duration("start-interval")?,
            retries,
        })
    }

    fn flag_duration(self, flags: &Flags, name: &str) -> Result<Option<std::time::Duration>> {
        let Some(flag) = flags.take(name) else { return Ok(None) };
        let text = flag.value.as_deref().unwrap_or_default();
        let duration = parse_duration(text).map_err(|error| {
            self.error("K0124", flag.start, flag.end, error.to_string()).help("write a unit, as in 30s or 1m30s")
        })?;
        if !duration.is_zero() && duration < std::time::Duration::from_millis(1) {
            return Err(self.error(
                "K0124",
                flag.start,
                flag.end,
                format!("Interval \"{name}\" cannot be less than 1ms"),
            ));
        }
        Ok(Some(duration))
    }

    fn onbuild(self, rest: usize) -> Result<Onbuild> {
        let text = self.text().get(rest..).unwrap_or_default();
        let inner = self.logical.tail(rest);
        let line = Line { logical: &inner, ..self };
        let (keyword, inner_rest) = line.keyword();
        if matches!(keyword.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            return Err(self.whole(
                "K0125",
                match keyword.as_str() {
                    "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
                    other => format!("{other} isn't allowed as an ONBUILD trigger"),
                },
            ));
        }
        let instruction = Box::new(line.instruction(&keyword, inner_rest)?);
        let mut trigger = text.trim_end().to_owned();
        for heredoc in &self.logical.heredocs {
            trigger.push('\n');
            trigger.push_str(&heredoc.body);
            trigger.push_str(&heredoc.name);
        }
        Ok(Onbuild { trigger, instruction })
    }

    /// Reads leading `--name[=value]` words; `--` ends them. Quotes and escapes in a value are honoured.
    fn flags(self, rest: usize, known: &[&str]) -> Result<Flags> {
        let mut flags = Flags { found: Vec::new(), rest };
        for (start, end) in self.words(rest) {
            let word = self.text().get(start..end).unwrap_or_default();
            let Some(body) = word.strip_prefix("--") else { break };
            let after = self.text().get(end..).unwrap_or_default();
            flags.rest = end + after.len() - after.trim_start().len();
            if body.is_empty() {
                break;
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            self.check_flag(name, value.as_deref(), known, &flags, start, end)?;
            flags.found.push(Flag { name: name.to_owned(), value, start, end });
        }
        Ok(flags)
    }

    fn check_flag(
        self,
        name: &str,
        value: Option<&str>,
        known: &[&str],
        flags: &Flags,
        start: usize,
        end: usize,
    ) -> Result<()> {
        if !known.contains(&name) {
            let diagnostic = self.error("K0126", start, end, format!("unknown flag: --{name}"));
            return Err(match nearest(name, known.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `--{near}`?")),
                None if known.is_empty() => diagnostic.help("this instruction takes no flags"),
                None => diagnostic.help(format!("its flags are: --{}", known.join(", --"))),
            });
        }
        let repeats = matches!(name, "mount" | "exclude" | "device");
        if !repeats && flags.take(name).is_some() {
            return Err(self
                .error("K0127", start, end, format!("Duplicate flag specified: {name}"))
                .help("keep one of them"));
        }
        let is_switch = matches!(name, "link" | "parents" | "keep-git-dir" | "unpack");
        if value.is_none() && !is_switch {
            return Err(self
                .error("K0128", start, end, format!("Missing a value on flag: {name}"))
                .help(format!("write `--{name}=VALUE`")));
        }
        Ok(())
    }

    fn flag_word(self, flag: &Flag) -> Word {
        let value = flag.value.as_deref().unwrap_or_default();
        Word::new(value, self.escape, self.logical.place(flag.end - value.len(), flag.end))
    }

    fn flag_bool(self, flags: &Flags, name: &str) -> Result<Option<bool>> {
        let Some(flag) = flags.take(name) else { return Ok(None) };
        match flag.value.as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.error(
                "K0129",
                flag.start,
                flag.end,
                format!("Expecting boolean value for flag {name}, not: {other}"),
            )),
        }
    }
}

impl Flags {
    fn take(&self, name: &str) -> Option<&Flag> {
        self.found.iter().find(|flag| flag.name == name)
    }

    fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f Flag> {
        self.found.iter().filter(move |flag| flag.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::Severity;

    fn errors(text: &str) -> Vec<Diagnostic> {
        parse(&Source::new("Dockerfile", text))
            .diagnostics
            .into_iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .collect()
    }

    fn only(text: &str) -> Instruction {
        let parsed = parse(&Source::new("Dockerfile", format!("FROM scratch\n{text}\n")));
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        parsed.dockerfile.stages[0].instructions[0].value.clone()
    }

    #[test]
    fn builder_p10_p12_p13_case_and_json() {
        assert_eq!(only("\t run [\"a\", \"b\"]"), only("RUN [\"a\",\"b\"]"));
        assert!(
            matches!(only("CMD [\"a\", 'b']"), Instruction::Cmd(CommandLine::Shell(text)) if text == "[\"a\", 'b']")
        );
        assert!(errors("FROM scratch\nRUN [\"a\", 2]\n")[0].message.contains("only string type"));
    }

    #[test]
    fn builder_p15_p16_stage_names() {
        assert!(!errors("FROM scratch AS 1x\n").is_empty() && !errors("FROM scratch AS a/b\n").is_empty());
        let parsed = parse(&Source::new("", "FROM scratch as Build\n"));
        assert_eq!(parsed.dockerfile.stages[0].name.as_deref(), Some("build"));
        assert!(!errors("FROM a b\n").is_empty());
    }

    #[test]
    fn builder_p18_p20_p21_mistakes_are_named_and_several_are_found() {
        let found = errors("FROM scratch\nCOYP a b\nCOPY --chown=1 --chown=2 a b\nENV A=1 B 2\nCOPY --form=x a b\n");
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].help.as_deref(), Some("did you mean `COPY`?"));
        assert!(found[1].message.contains("Duplicate flag"));
        assert!(found[2].message.contains("can't find = in \"B\""));
        assert_eq!(found[3].help.as_deref(), Some("did you mean `--from`?"));
    }

    #[test]
    fn builder_p23_nothing_to_build() {
        assert!(!errors("").is_empty() && !errors("# c\n\n").is_empty());
        assert!(errors("RUN x\n")[0].message.contains("no build stage"));
    }

    #[test]
    fn builder_a05_v06_pairs() {
        let Instruction::Arg(args) = only("ARG A B=2 C=\"x y\"") else { panic!() };
        assert_eq!(args.iter().map(|arg| arg.name.as_str()).collect::<Vec<_>>(), ["A", "B", "C"]);
        let Instruction::Env(pairs) = only("ENV a b  c") else { panic!() };
        assert_eq!((pairs.len(), pairs[0].value.raw()), (1, "b  c"));
        let Instruction::Label(pairs) = only("LABEL \"a b\"=\"c d\" e=f") else { panic!() };
        assert_eq!(pairs.len(), 2);
    }

    #[test]
    fn copy_and_its_flags() {
        let Instruction::Copy(copy) =
            only("COPY --from=x --chown=$U --link --exclude=a --exclude=b <<E f /d/\nbody\nE")
        else {
            panic!()
        };
        assert_eq!(copy.sources.len(), 2);
        assert!(copy.link && copy.exclude == ["a", "b"] && copy.chown.unwrap().raw() == "$U");
        assert!(matches!(&copy.sources[0], CopySource::Heredoc(heredoc) if heredoc.body == "body\n"));
        assert!(!errors("FROM scratch\nCOPY a\n").is_empty());
    }

    #[test]
    fn onbuild_keeps_its_text() {
        let Instruction::Onbuild(onbuild) = only("ONBUILD RUN <<E\nx\nE") else { panic!() };
        assert_eq!(onbuild.trigger, "RUN <<E\nx\nE");
        assert!(parse_trigger(&onbuild.trigger).is_ok());
        assert!(!errors("FROM scratch\nONBUILD ONBUILD RUN x\n").is_empty());
    }

    #[test]
    fn errors_point_at_the_word() {
        let text = "FROM scratch\nCOPY --chmod=7 \\\n   --form=x a b\n";
        let found = errors(text);
        assert_eq!(&text[found[0].span.start..found[0].span.end], "--form=x");
    }
}
