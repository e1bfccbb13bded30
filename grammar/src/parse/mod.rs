//! From the shape of a Dockerfile to its typed tree. What is wrong becomes a diagnostic, and reading goes on with the
//! next instruction.

mod copy;
mod flags;
mod health;
mod mounts;
mod run;
mod usage;

pub use mounts::{Mount, MountFlag, MountKind, Sharing};

use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{ArgDeclaration, CommandLine, Dockerfile, Instruction, KeyValue, Located, Onbuild, Stage};

use crate::nearest::nearest;
use crate::source::{Source, Span};
use crate::syntax::{self, Arguments, Node, Pair, Piece, Syntax};
use crate::word::Word;
use usage::usage;

/// The language's keywords.
pub(crate) const KEYWORDS: [&str; 18] = [
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
    /// The shape that it was read from.
    pub syntax: Syntax,
    /// What could be read.
    pub dockerfile: Dockerfile,
    /// What was wrong, in the order of the file. With an error among them the tree must not be built.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reading stops at so many mistakes.
const MOST_DIAGNOSTICS: usize = 100;

/// An instruction before the first FROM.
const NO_STAGE: &str = "K0107";

type Result<T> = std::result::Result<T, Diagnostic>;

/// Reads a Dockerfile. Never fails as a whole.
pub fn parse(source: &Source) -> Parsed {
    let syntax = syntax::syntax(source);
    let mut dockerfile = Dockerfile {
        source: source.clone(),
        escape: syntax.escape,
        directives: syntax.directives.clone(),
        global_args: Vec::new(),
        stages: Vec::new(),
    };
    let mut diagnostics = syntax.diagnostics.clone();
    for node in &syntax.nodes {
        let Err(diagnostic) = (Reader { source, node, escape: syntax.escape }).into_tree(&mut dockerfile) else {
            continue;
        };
        // A FROM that could not be read leaves all behind it without a stage: that is no mistake of theirs.
        let follows =
            diagnostic.code == NO_STAGE && diagnostics.iter().any(|earlier| earlier.severity == Severity::Error);
        if !follows {
            diagnostics.push(diagnostic);
        }
        // A text of another language is wrong in every line.
        if diagnostics.len() >= MOST_DIAGNOSTICS {
            let last = diagnostics.pop().map(|last| last.note("there are more mistakes, which are not shown"));
            diagnostics.extend(last);
            break;
        }
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    Parsed { syntax, dockerfile, diagnostics }
}

/// Reads one ONBUILD trigger as an image's configuration holds it. All of it stands at `place`, which is in the Dockerfile
/// that is built on the image.
///
/// # Errors
/// What is wrong with it, in the text of the trigger.
pub fn parse_trigger(text: &str, place: Span) -> std::result::Result<Located<Instruction>, Vec<Diagnostic>> {
    let source = Source::new("ONBUILD", text);
    trigger(&source, None).and_then(|_| trigger(&source, Some(place)))
}

fn trigger(source: &Source, place: Option<Span>) -> std::result::Result<Located<Instruction>, Vec<Diagnostic>> {
    let syntax = syntax::syntax_at(source, place);
    if !syntax.diagnostics.is_empty() {
        return Err(syntax.diagnostics);
    }
    let [node] = syntax.nodes.as_slice() else {
        let several = Diagnostic::error("K0106", "an ONBUILD trigger must be one instruction");
        return Err(vec![several.at(source, Span::default()).help("build the base with one ONBUILD for each")]);
    };
    let reader = Reader { source, node, escape: '\\' };
    let value = reader.instruction().map_err(|diagnostic| vec![diagnostic])?;
    Ok(Located { value, span: node.span, original: node.original.clone() })
}

/// One instruction being read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    source: &'a Source,
    node: &'a Node,
    escape: char,
}

impl<'a> Reader<'a> {
    fn at(self, span: Span, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message).at(self.source, span)
    }

    fn whole(self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.at(self.node.line_span, code, message)
    }

    fn word(self, piece: &Piece) -> Word {
        Word::new(piece.text.as_str(), self.escape, piece.span)
    }

    fn into_tree(self, dockerfile: &mut Dockerfile) -> Result<()> {
        if self.node.command() == "FROM" {
            let stage = self.from(dockerfile.stages.len())?;
            dockerfile.stages.push(stage);
            return Ok(());
        }
        let value = self.instruction()?;
        let (span, original) = (self.node.span, self.node.original.clone());
        match (dockerfile.stages.last_mut(), value) {
            (Some(stage), value) => stage.instructions.push(Located { value, span, original }),
            (None, Instruction::Arg(value)) => dockerfile.global_args.push(Located { value, span, original }),
            (None, _) => {
                return Err(self
                    .whole(NO_STAGE, "no build stage in current context")
                    .label("before the first FROM only ARG may stand")
                    .help("begin the file with FROM"));
            }
        }
        Ok(())
    }

    fn from(self, index: usize) -> Result<Stage> {
        let flags = self.flags(&["platform"])?;
        let words = self.pieces();
        let (base, name) = match words {
            [base] => (base, None),
            [base, middle, name] if middle.text.eq_ignore_ascii_case("as") => (base, Some(self.stage_name(name)?)),
            _ => {
                return Err(self.whole("K0110", "FROM requires either one or three arguments").help(usage("FROM")));
            }
        };
        Ok(Stage {
            index,
            name,
            base: self.word(base),
            platform: flags.word("platform"),
            span: self.node.span,
            base_span: base.span,
            original: self.node.original.clone(),
            instructions: Vec::new(),
        })
    }

    fn stage_name(self, piece: &Piece) -> Result<String> {
        let name = piece.text.to_lowercase();
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
        if !valid {
            let message =
                format!("invalid name for build stage: \"{name}\", name can't start with a number or contain symbols");
            return Err(self
                .at(piece.span, "K0111", message)
                .help("names begin with a letter and hold letters, digits, `-`, `_` and `.`"));
        }
        Ok(name)
    }

    fn instruction(self) -> Result<Instruction> {
        let keyword = self.node.command();
        if !KEYWORDS.contains(&keyword.as_str()) {
            return Err(self.unknown(&keyword));
        }
        if !matches!(keyword.as_str(), "CMD" | "ENTRYPOINT" | "RUN") && self.is_empty() {
            let message = format!("{keyword} requires at least one argument");
            return Err(self.whole("K0112", message).help(usage(&keyword)));
        }
        Ok(match keyword.as_str() {
            "ADD" => Instruction::Add(self.copy("ADD")?),
            "COPY" => Instruction::Copy(self.copy("COPY")?),
            "RUN" => Instruction::Run(self.run()?),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            _ => {
                self.flags(&[])?;
                self.plain(&keyword)?
            }
        })
    }

    /// The instructions that take no flags.
    fn plain(self, keyword: &str) -> Result<Instruction> {
        Ok(match keyword {
            "ARG" => Instruction::Arg(self.args()?),
            "CMD" => Instruction::Cmd(self.command()),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()),
            "ENV" => Instruction::Env(self.pairs(keyword)?),
            "LABEL" => Instruction::Label(self.pairs(keyword)?),
            "EXPOSE" => Instruction::Expose(self.words()),
            "MAINTAINER" => Instruction::Maintainer(self.rest().raw().to_owned()),
            "ONBUILD" => Instruction::Onbuild(self.onbuild()?),
            "SHELL" => match &self.node.arguments {
                Arguments::Json(shell, _) if !shell.is_empty() => Instruction::Shell(shell.clone()),
                _ => {
                    return Err(self
                        .whole("K0113", "SHELL requires the arguments to be in JSON form")
                        .help(usage(keyword)));
                }
            },
            "STOPSIGNAL" => Instruction::Stopsignal(self.rest()),
            "USER" => Instruction::User(self.rest()),
            "VOLUME" => Instruction::Volume(self.volumes()?),
            "WORKDIR" => Instruction::Workdir(self.rest()),
            _ => return Err(self.unknown(keyword)),
        })
    }

    fn is_empty(self) -> bool {
        match &self.node.arguments {
            Arguments::None => true,
            Arguments::Pairs(pairs) => pairs.is_empty(),
            Arguments::Json(values, _) => values.is_empty(),
            _ => false,
        }
    }

    fn unknown(self, keyword: &str) -> Diagnostic {
        let diagnostic = self.at(self.node.keyword.span, "K0114", format!("unknown instruction: {keyword}"));
        match nearest(keyword, KEYWORDS) {
            Some(known) => diagnostic.help(format!("did you mean `{known}`?")),
            None => diagnostic.help("a line that goes on from the one before it needs a `\\` at that one's end"),
        }
    }

    /// All that is left, as one word.
    fn rest(self) -> Word {
        match &self.node.arguments {
            Arguments::Text(piece) => self.word(piece),
            _ => Word::new("", self.escape, self.node.line_span),
        }
    }

    fn pieces(self) -> &'a [Piece] {
        match &self.node.arguments {
            Arguments::List(pieces) => pieces,
            _ => &[],
        }
    }

    fn words(self) -> Vec<Word> {
        match &self.node.arguments {
            Arguments::Json(values, span) => {
                values.iter().map(|value| Word::new(value.as_str(), self.escape, *span)).collect()
            }
            _ => self.pieces().iter().map(|piece| self.word(piece)).collect(),
        }
    }

    fn volumes(self) -> Result<Vec<Word>> {
        let words = self.words();
        match words.iter().find(|word| word.raw().trim().is_empty()) {
            Some(word) => {
                let message = "VOLUME specified can not be an empty string";
                Err(self.at(word.span(), "K0131", message).help(usage("VOLUME")))
            }
            None => Ok(words),
        }
    }

    fn command(self) -> CommandLine {
        command(&self.node.arguments)
    }

    fn args(self) -> Result<Vec<ArgDeclaration>> {
        let declaration = |pair: &KeyValue, equals: bool| ArgDeclaration {
            name: pair.key.raw().to_owned(),
            default: equals.then(|| pair.value.clone()),
            span: pair.span,
        };
        let Arguments::Pairs(written) = &self.node.arguments else { return Ok(Vec::new()) };
        let pairs = self.pairs("ARG")?;
        Ok(pairs.iter().zip(written).map(|(pair, written)| declaration(pair, written.equals)).collect())
    }

    fn pairs(self, keyword: &str) -> Result<Vec<KeyValue>> {
        let Arguments::Pairs(pairs) = &self.node.arguments else { return Ok(Vec::new()) };
        let pair = |pair: &Pair| {
            if pair.key.text.is_empty() {
                let message = format!("{keyword} names can not be blank");
                return Err(self.at(pair.span, "K0116", message).help(usage(keyword)));
            }
            Ok(KeyValue { key: self.word(&pair.key), value: self.word(&pair.value), span: pair.span })
        };
        pairs.iter().map(pair).collect()
    }

    fn onbuild(self) -> Result<Onbuild> {
        let Arguments::Trigger(inner, text) = &self.node.arguments else {
            let message = "ONBUILD requires at least one argument";
            return Err(self.whole("K0112", message).help(usage("ONBUILD")));
        };
        let refused = match inner.command().as_str() {
            "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            "FROM" => "FROM isn't allowed as an ONBUILD trigger",
            "MAINTAINER" => "MAINTAINER isn't allowed as an ONBUILD trigger",
            _ => {
                let instruction = Box::new(Reader { node: inner, ..self }.instruction()?);
                return Ok(Onbuild { trigger: text.clone(), instruction });
            }
        };
        let help = "a trigger is any instruction but FROM, MAINTAINER and ONBUILD";
        Err(self.at(inner.keyword.span, "K0125", refused).help(help))
    }
}

/// JSON is a program and its arguments, anything else is for the shell.
fn command(arguments: &Arguments) -> CommandLine {
    match arguments {
        Arguments::Json(argv, _) => CommandLine::Exec(argv.clone()),
        Arguments::Text(piece) => CommandLine::Shell(piece.text.clone()),
        _ => CommandLine::Shell(String::new()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::Severity;
    use crate::instruction::CopySource;

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
        assert!(matches!(&copy.sources[0], CopySource::Heredoc(heredoc) if heredoc.content == "body\n"));
        assert!(!errors("FROM scratch\nCOPY a\n").is_empty());
    }

    #[test]
    fn onbuild_keeps_its_text() {
        let Instruction::Onbuild(onbuild) = only("ONBUILD RUN <<E\nx\nE") else { panic!() };
        assert_eq!(onbuild.trigger, "RUN <<E\nx\nE");
        let place = Span::new(5, 9);
        let located = parse_trigger("COPY --chown=$U a <<E /f\nx\nE", place).unwrap();
        let Instruction::Copy(copy) = located.value else { panic!() };
        assert_eq!((located.span, copy.destination_span, copy.chown.unwrap().span()), (place, place, place));
        assert!(matches!(&copy.sources[1], CopySource::Heredoc(heredoc) if heredoc.span == place));
        assert!(parse_trigger(&onbuild.trigger, place).is_ok());
        let wrong = parse_trigger("COPY --chwon=1 a b", place).unwrap_err();
        assert_eq!(wrong[0].span, Span::new(5, 14));
        assert!(!errors("FROM scratch\nONBUILD ONBUILD RUN x\n").is_empty());
    }

    #[test]
    fn errors_point_at_the_word() {
        let text = "FROM scratch\nCOPY --chmod=7 \\\n   --form=x a b\n";
        let found = errors(text);
        assert_eq!(&text[found[0].span.start..found[0].span.end], "--form=x");
    }
}
