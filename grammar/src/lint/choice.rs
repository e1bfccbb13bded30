//! Which rules are looked at: `# check=skip=A,B;error=true;experimental=C`, or the same text from the user.

use std::collections::BTreeSet;

use super::rule::{Rule, RuleKind};
use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::Dockerfile;
use crate::nearest::nearest;
use crate::values::{ValueError, parse_bool};

/// What a check looks at, and whether its findings are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckChoice {
    skip: Names,
    experimental: Names,
    /// Findings fail the build, or the check.
    pub error: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    named: BTreeSet<&'static str>,
}

impl CheckChoice {
    /// Reads the text of a `check` directive.
    ///
    /// # Errors
    /// When an option, a rule or a value is not known.
    pub fn parse(text: &str) -> Result<CheckChoice, ValueError> {
        let mut choice = CheckChoice::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| ValueError(format!("invalid check option {option:?}: it is no key=value")))?;
            match key.trim().to_lowercase().as_str() {
                "skip" => choice.skip = Names::parse(value)?,
                "experimental" => choice.experimental = Names::parse(value)?,
                "error" => {
                    choice.error = parse_bool(value.trim())
                        .ok_or_else(|| ValueError(format!("invalid check option {option:?}: write true or false")))?;
                }
                other => {
                    let known = "skip, error and experimental are known";
                    return Err(ValueError(format!("invalid check option {other:?}: {known}")));
                }
            }
        }
        Ok(choice)
    }

    /// What the file itself asks for.
    ///
    /// # Errors
    /// A diagnostic at the directive.
    pub fn of(dockerfile: &Dockerfile) -> Result<CheckChoice, Diagnostic> {
        let directive = dockerfile.directives.iter().find(|directive| directive.name == "check");
        let Some(directive) = directive else { return Ok(CheckChoice::default()) };
        CheckChoice::parse(&directive.value).map_err(|error| {
            let diagnostic = Diagnostic::error("K0140", error.to_string()).at(&dockerfile.source, directive.span);
            diagnostic.help("write `# check=skip=RULE,RULE;error=true`; `dunnage check --rules` lists the rules")
        })
    }

    /// Whether a finding is wanted. Errors always are.
    pub fn wants(&self, diagnostic: &Diagnostic) -> bool {
        let Some(rule) = Rule::parse(diagnostic.code).filter(|_| diagnostic.severity != Severity::Error) else {
            return true;
        };
        !self.skip.has(rule) && (rule.kind() != RuleKind::Experimental || self.experimental.has(rule))
    }
}

impl Names {
    fn parse(text: &str) -> Result<Names, ValueError> {
        let mut names = Names::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case("all") {
                names.all = true;
                continue;
            }
            let rule = Rule::parse(name).ok_or_else(|| {
                let near = nearest(name, Rule::ALL.iter().map(|rule| rule.name()));
                let near = near.map_or_else(String::new, |near| format!(", did you mean {near}?"));
                ValueError(format!("{name:?} is no rule of the check{near}"))
            })?;
            names.named.insert(rule.name());
        }
        Ok(names)
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.named.contains(rule.name())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::{Source, Span};

    fn wants(choice: &str, rule: Rule) -> bool {
        CheckChoice::parse(choice).unwrap().wants(&rule.at(&Source::new("", ""), Span::default(), ""))
    }

    #[test]
    fn rules_are_skipped_by_name_or_all_at_once() {
        assert!(wants("", Rule::UndefinedVar) && wants("skip=StageNameCasing;error=true", Rule::UndefinedVar));
        assert!(!wants("skip=undefinedvar, StageNameCasing", Rule::UndefinedVar) && !wants("skip=all", Rule::CdInRun));
        assert!(!wants("", Rule::InvalidDefinitionDescription));
        assert!(wants("experimental=all", Rule::InvalidDefinitionDescription));
        assert!(CheckChoice::parse("error=true").unwrap().error);
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (text, why) in [
            ("skip", "key=value"),
            ("skip=UndefinedVars", "did you mean UndefinedVar?"),
            ("error=x", "true or false"),
            ("sikp=all", "are known"),
        ] {
            let error = CheckChoice::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
