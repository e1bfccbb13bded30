//! The rules of `dunnage check`: their names, why each is there, and what to do.

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{Source, Span};

/// Where a rule comes from, which says when it is looked at and whether it can fail a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// BuildKit has it too, under the same name.
    Standard,
    /// The same, but only looked at when the file or the user asks for it.
    Experimental,
    /// Dunnage's own, where what is built is not what is written.
    Own,
    /// Dunnage's own advice: it never fails a check.
    Hint,
}

/// What a rule says beside its message.
struct About {
    name: &'static str,
    kind: RuleKind,
    why: &'static str,
    fix: &'static str,
}

macro_rules! rules {
    ($($name:ident $kind:ident $why:literal $fix:literal)*) => {
        /// A rule. The variants are the names that users write in `check=skip=…`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "what a rule is for is what `why` says")]
        pub enum Rule { $($name),* }

        impl Rule {
            /// All of them, by name.
            pub const ALL: &'static [Rule] = &[$(Rule::$name),*];

            fn about(self) -> About {
                match self {
                    $(Rule::$name => About {
                        name: stringify!($name), kind: RuleKind::$kind, why: $why, fix: $fix,
                    }),*
                }
            }
        }
    };
}

rules! {
    AddForLocalFile Hint
        "ADD also unpacks archives and fetches URLs, so a reader cannot see what happens here"
        "write COPY"
    AptGetInstallWithoutUpdate Hint
        "the package lists of the base are old or not there: the install fails, or installs what the cache remembers"
        "write `apt-get update && apt-get install …` in one RUN"
    AptListsLeft Hint
        "the package lists stay in the layer, tens of megabytes that nobody reads"
        "end the RUN with `&& rm -rf /var/lib/apt/lists/*`, or mount a cache there"
    BrokenJsonForm Hint
        "it is no valid JSON, so all of it is handed to the shell as text"
        "use double quotes and commas, as in [\"program\", \"argument\"]"
    CdInRun Hint
        "each RUN starts in the WORKDIR again: the change of directory ends with this line"
        "write WORKDIR"
    ConsistentInstructionCasing Standard
        "one way of writing keywords is easier to read"
        "write this keyword as the others are written"
    CopyBeforeInstall Hint
        "every change of any file runs the install again"
        "copy the files that name the dependencies first, install, then copy the rest"
    CopyIgnoredFile Standard
        "the ignore file keeps it out of the context, so it cannot be copied"
        "remove the source here, or bring it back in the ignore file with a `!` line"
    DirectiveWithoutEffect Hint
        "a directive counts at the very top only, before any comment, empty line or instruction, and by its exact name"
        "move it to the top of the file"
    DuplicateStageName Standard
        "the later stage hides the earlier one"
        "give each stage a name of its own"
    ExposeInvalidFormat Standard
        "EXPOSE says which port the container has; address and host port are chosen when it is run"
        "write the container's port alone"
    ExposeProtoCasing Standard
        "protocols are lower-case wherever they are compared"
        "write it in lower case"
    FromAsCasing Standard
        "keywords of one line look the same when they are written the same"
        "write both in the same case"
    FromPlatformFlagConstDisallowed Standard
        "the stage is of one platform, whatever platform the build is for"
        "use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage after its platform"
    InvalidBaseImagePlatform Standard
        "the programs of the base may not run on the platform that is asked for"
        "choose a base image that has the platform"
    InvalidDefaultArgInFrom Standard
        "without --build-arg the file cannot be built"
        "give the ARG a default that makes a valid image name"
    InvalidBytes Own
        "the bytes here are no UTF-8, and are replaced by U+FFFD in what is built"
        "save the file as UTF-8"
    InvalidDefinitionDescription Experimental
        "the comment above a stage or an ARG is shown as its description"
        "begin the comment with the name, or leave an empty line between"
    JSONArgsRecommended Standard
        "a shell stands between the container and the program, and does not pass signals on"
        "write it as a JSON array, or name the shell with SHELL"
    LegacyKeyValueFormat Standard
        "the old form takes one pair a line, and all blanks belong to the value"
        "write NAME=VALUE, with quotes where the value has blanks"
    MaintainerDeprecated Standard
        "the instruction is deprecated, and tools look at labels"
        "write LABEL org.opencontainers.image.authors=\"…\""
    MultipleInstructionsDisallowed Standard
        "only the last one has an effect"
        "remove this one"
    NoEmptyContinuation Standard
        "an empty line inside an instruction is most often a mistake"
        "remove the empty line, or make it a comment"
    PipeHidesFailure Hint
        "a pipe succeeds when its last program does: a download that failed goes unnoticed"
        "begin with `set -o pipefail;`, or set SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]"
    RedundantTargetPlatform Standard
        "it is the platform that a stage has anyway"
        "remove the flag"
    ReservedStageName Standard
        "the name means something else already"
        "choose another name"
    SecretsUsedInArgOrEnv Standard
        "the value is in the image's configuration or history, for everyone who has the image"
        "use RUN --mount=type=secret"
    StageNameCasing Standard
        "stage names are compared in lower case"
        "write the name in lower case"
    SudoInRun Hint
        "RUN is root unless USER says otherwise, and sudo changes terminals, environment and signals"
        "remove it, or use USER"
    UndefinedArgInFrom Standard
        "FROM sees only what ARG declares before the first FROM"
        "declare it there"
    UndefinedVar Standard
        "a variable that has no value is replaced by nothing"
        "declare it with ARG or ENV, or write a default as in ${NAME:-default} behind an ARG"
    UnpinnedBase Hint
        "what the name stands for changes with time, and with it what is built"
        "name a version, or a digest"
    WorkdirRelativePath Standard
        "it depends on the WORKDIR of the base image, which may change"
        "write an absolute path"
}

impl Rule {
    /// As users write it.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Where it comes from.
    pub fn kind(self) -> RuleKind {
        self.about().kind
    }

    /// Why it is there, in one sentence.
    pub fn why(self) -> &'static str {
        self.about().why
    }

    /// What to do, in one sentence.
    pub fn fix(self) -> &'static str {
        self.about().fix
    }

    /// The rule of a name, without regard to case.
    pub fn parse(name: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.name().eq_ignore_ascii_case(name))
    }

    /// What it says about a place.
    pub fn at(self, source: &Source, span: Span, message: impl Into<String>) -> Diagnostic {
        let About { name, kind, why, fix } = self.about();
        let severity = if kind == RuleKind::Hint { Severity::Hint } else { Severity::Warning };
        let diagnostic = Diagnostic { severity, ..Diagnostic::warning(name, message) };
        diagnostic.at(source, span).note(why).help(fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_documents() {
        let document = include_str!("../../../docs/dockerfile.md");
        for rule in Rule::ALL {
            assert!(document.contains(rule.name()), "docs/dockerfile.md does not know {}", rule.name());
            assert_eq!(Rule::parse(&rule.name().to_lowercase()), Some(*rule));
        }
    }
}
