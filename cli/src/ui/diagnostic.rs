//! A diagnostic of the Dockerfile as a compiler shows it: the sentence, file:line:column, the excerpt with a caret, the remedy.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use grammar::{Diagnostic, Severity};

use super::foreign;

/// Most lines of an instruction that are shown.
const EXCERPT_LINES: usize = 8;

/// Writes it to standard error.
pub(crate) fn print(diagnostic: &Diagnostic) {
    super::say(&text(diagnostic));
}

/// As it is shown. Streams take the colours out where there must be none.
pub(crate) fn text(diagnostic: &Diagnostic) -> String {
    render(diagnostic, &Renderer::styled())
}

/// A build's warnings, each on a line of standard error.
pub(crate) fn summary(warnings: &[Diagnostic]) {
    for diagnostic in warnings {
        let (line, _) = diagnostic.source.location(diagnostic.span.start);
        let place = format!("{}:{line}", diagnostic.source.name());
        super::note(&format!("{}: {} ({place})", diagnostic.code, diagnostic.message));
    }
    if !warnings.is_empty() {
        super::note("`dunnage check` says why, and what to do");
    }
}

/// Names, words and the last lines of a program come from others.
fn safe(diagnostic: &Diagnostic) -> Diagnostic {
    let mut safe = diagnostic.clone();
    safe.message = foreign::lines(&safe.message);
    safe.label = foreign::lines(&safe.label);
    safe.notes.iter_mut().for_each(|note| *note = foreign::lines(note));
    safe.help = safe.help.as_deref().map(foreign::lines);
    safe
}

fn render(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let diagnostic = &safe(diagnostic);
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Hint => Level::INFO.with_name("hint"),
    };
    let mut group =
        level.primary_title(diagnostic.message.as_str()).id(diagnostic.code).elements(Vec::<Element<'_>>::new());
    let text = diagnostic.source.text();
    let range = excerpt(diagnostic);
    if !text.is_empty() {
        let annotation = AnnotationKind::Primary.span(range);
        let annotation =
            if diagnostic.label.is_empty() { annotation } else { annotation.label(diagnostic.label.as_str()) };
        group = group.element(Snippet::source(text).path(diagnostic.source.name()).annotation(annotation));
    } else if !diagnostic.source.name().is_empty() {
        // Nothing can be shown of an empty file but where it is.
        group = group.element(Origin::path(diagnostic.source.name()).line(1).char_column(1));
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    groups.push(group);
    if let Some(help) = &diagnostic.help {
        groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
    }
    // The excerpt is the Dockerfile's own text.
    foreign::without_commands(&renderer.clone().decor_style(DecorStyle::Ascii).render(&groups))
}

/// The span, cut to its first lines, and to what the text has.
fn excerpt(diagnostic: &Diagnostic) -> std::ops::Range<usize> {
    let text = diagnostic.source.text();
    let start = diagnostic.span.start.min(text.len());
    let end = diagnostic.span.end.clamp(start, text.len());
    let spanned = text.get(start..end).unwrap_or_default();
    let kept: usize = spanned.split_inclusive('\n').take(EXCERPT_LINES).map(str::len).sum();
    let shown = spanned.get(..kept).unwrap_or_default().trim_end();
    start..start + shown.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use grammar::{Source, Span};

    #[test]
    fn a_diagnostic_has_place_excerpt_and_remedy() {
        let source = Source::new("Dockerfile", "FROM scratch\nCOYP a b\n");
        let diagnostic = Diagnostic::error("K0101", "unknown instruction: COYP")
            .at(&source, Span::new(13, 17))
            .label("here")
            .help("did you mean COPY?");
        let text = render(&diagnostic, &Renderer::plain());
        for part in
            ["error[K0101]: unknown instruction: COYP", "Dockerfile:2:1", "COYP a b", "^^^^ here", "did you mean COPY?"]
        {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn a_span_outside_the_text_is_cut() {
        let source = Source::new("Dockerfile", "FROM");
        let diagnostic = Diagnostic::error("K0101", "m").at(&source, Span::new(2, 900));
        assert!(render(&diagnostic, &Renderer::plain()).contains("Dockerfile:1:3"));
    }
}
