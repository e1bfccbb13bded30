//! `dunnage check`: what is allowed, but most likely not what was meant.
//!
//! Here are the rules that need the text alone. Those that need values of variables, the base image or the context are
//! looked at where these are known, while the build is planned.

mod choice;
mod encoding;
mod hints;
mod rule;
mod stages;
mod style;

pub use choice::CheckChoice;
pub use rule::{Rule, RuleKind};
pub use stages::is_secret;

use crate::diagnostic::Diagnostic;
use crate::parse::Parsed;

/// Looks at a text that was read. Which of the findings are wanted is for [`CheckChoice`] to say.
pub fn lint(parsed: &Parsed) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    encoding::check(parsed, &mut found);
    style::check(parsed, &mut found);
    stages::check(parsed, &mut found);
    hints::check(parsed, &mut found);
    found.sort_by_key(|diagnostic| diagnostic.span.start);
    found
}
