//! The page: figures, workers over time, each step with its bar and its reason, the graph. Nothing is loaded from anywhere.

use std::collections::BTreeMap;

use engine::{BuildRecord, MissReason, StepRecord, StepStatus};

use super::{Excerpt, graph, lanes, shown, time, tone, word};
use crate::ui::graph::{Graph, escape};
use crate::ui::units;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a build.
pub(crate) fn page(build: &BuildRecord, excerpts: &BTreeMap<usize, Excerpt>) -> String {
    let critical = build.critical_path();
    let scale = Scale::of(build);
    let graph = graph(build, &critical).inline_svg();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n{}{}{}{}<section><h2>Graph</h2><p class=\"hint\">Thick borders mark the critical path; dashed lines are files taken from another stage.</p><div class=\"scroll\">{graph}</div></section>\n<footer>dunnage {}</footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        Graph::style(),
        header(build),
        figures(build, &critical),
        workers(build, &critical, &scale),
        steps(build, &critical, &scale, excerpts),
        env!("CARGO_PKG_VERSION"),
        title = escape(&format!("{} · build {}", name(build), build.id)),
    )
}

fn name(build: &BuildRecord) -> &str {
    build.names.first().map_or(build.context.as_str(), String::as_str)
}

fn header(build: &BuildRecord) -> String {
    let target = build.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
    let facts = format!("{}{target} · {} · {}", build.dockerfile, build.context, units::time_ms(build.started_ms));
    let mut out = format!(
        "<header><h1>{} <span class=\"status {}\">{}</span></h1><p>{} · build <code>{}</code></p>",
        escape(name(build)),
        build.status.word(),
        build.status.word(),
        escape(&facts),
        escape(&build.id),
    );
    if let Some(image) = &build.image {
        out.push_str(&format!("<p><code>{}</code></p>", escape(image)));
    }
    if let Some(error) = &build.error {
        let place = error.place.as_ref().map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        out.push_str(&format!("<pre class=\"error\">{}</pre>", escape(&format!("{place}{}", error.message))));
    }
    out.push_str("</header>\n");
    out
}

fn figures(build: &BuildRecord, critical: &[usize]) -> String {
    let cached = build.count(StepStatus::Cached);
    let ran: Vec<&StepRecord> = build.that_ran().collect();
    let busy: u64 = build.steps.iter().map(time).sum();
    let on_path: u64 = critical.iter().filter_map(|number| build.step(*number)).map(time).sum();
    let written: u64 = ran.iter().map(|step| step.bytes).sum();
    let share = (on_path * 100).checked_div(build.took_ms).unwrap_or(0);
    let figure = |value: String, what: &str, more: String| {
        format!("<div class=\"figure\"><b>{value}</b><span>{what}</span><small>{}</small></div>", escape(&more))
    };
    let same = ran.iter().filter(|step| step.same_tree).count();
    let same = if same > 0 { format!("{same} gave files known before") } else { String::new() };
    [
        "<section class=\"figures\">".to_owned(),
        figure(shown(build.took_ms), "wall time", format!("{} of work in all steps", shown(busy))),
        figure(format!("{cached} / {}", build.steps.len()), "steps cached", String::new()),
        figure(ran.len().to_string(), "steps ran", same),
        figure(shown(on_path), "critical path", format!("{} steps, {share}% of the wall time", critical.len())),
        figure(units::bytes(written), "written", format!("{} in the image", units::bytes(build.bytes))),
        "</section>\n".to_owned(),
    ]
    .concat()
}

/// From milliseconds to percent of the page's width.
struct Scale {
    end: u64,
    tick: u64,
}

impl Scale {
    fn of(build: &BuildRecord) -> Scale {
        let end = build.steps.iter().map(|step| step.ended_ms).max().unwrap_or(0).max(build.took_ms).max(1);
        // The first of 1, 2, 5, 10 … that gives at most ten marks.
        let mut tick = 1;
        while end / tick > 10 {
            let first = tick.to_string().starts_with('2');
            tick = if first { tick / 2 * 5 } else { tick * 2 };
        }
        Scale { end, tick }
    }

    fn percent(&self, at: u64) -> f64 {
        (at as f64 / self.end as f64 * 100.0).min(100.0)
    }

    fn axis(&self) -> String {
        let mut out = String::from("<div class=\"axis\">");
        let mut at = 0;
        while at <= self.end {
            out.push_str(&format!(
                "<i style=\"left:{:.3}%\">{}</i>",
                self.percent(at),
                if at == 0 { "0".to_owned() } else { shown(at) }
            ));
            at += self.tick;
        }
        out.push_str("</div>");
        out
    }

    fn bar(&self, step: &StepRecord, critical: &[usize], label: &str) -> String {
        let (left, width) = (self.percent(step.began_ms), self.percent(time(step)));
        let strong = if critical.contains(&step.number) { " strong" } else { "" };
        let tip = format!("#{} {}\n{} · {}", step.number, step.text, word(step), shown(time(step)));
        format!(
            "<a class=\"bar {}{strong}\" data-step=\"{n}\" href=\"#step-{n}\" style=\"left:{left:.3}%;width:{width:.3}%\" title=\"{}\">{}</a>",
            tone(step).word(),
            escape(&tip),
            escape(label),
            n = step.number,
        )
    }
}

fn workers(build: &BuildRecord, critical: &[usize], scale: &Scale) -> String {
    let placed = lanes(build);
    let mut out = String::from(
        "<section><h2>Workers</h2><p class=\"legend\"><i class=\"cached\"></i>cached<i class=\"runs\"></i>ran<i class=\"same\"></i>ran, files known before<i class=\"failed\"></i>failed or stopped<i class=\"strong\"></i>critical path</p><div class=\"gantt\">",
    );
    out.push_str(&format!("<div class=\"lane\"><span></span>{}</div>", scale.axis()));
    for lane in 0..placed.iter().map(|(lane, _)| lane + 1).max().unwrap_or(0) {
        out.push_str(&format!("<div class=\"lane\"><span>{}</span><div class=\"track\">", lane + 1));
        for (_, step) in placed.iter().filter(|(of, _)| *of == lane) {
            let wide = scale.percent(time(step)) > 4.0;
            let label = if wide { format!("#{} {}", step.number, step.text) } else { String::new() };
            out.push_str(&scale.bar(step, critical, &label));
        }
        out.push_str("</div></div>");
    }
    out.push_str("</div></section>\n");
    out
}

fn steps(build: &BuildRecord, critical: &[usize], scale: &Scale, excerpts: &BTreeMap<usize, Excerpt>) -> String {
    let mut out = String::from(
        "<section><h2>Steps</h2><p class=\"hint\">Choose a step for its reason and the end of its log.</p><div class=\"steps\">",
    );
    for step in &build.steps {
        let (place, count) = step.position;
        let strong = if critical.contains(&step.number) { " strong" } else { "" };
        let time_shown = if step.status == StepStatus::Waiting { String::new() } else { shown(time(step)) };
        let bytes = if step.bytes > 0 { units::bytes(step.bytes) } else { String::new() };
        out.push_str(&format!(
            "<details id=\"step-{n}\" data-step=\"{n}\" class=\"{}{strong}\"><summary><span class=\"n\">#{n}</span><span class=\"where\">{} {place}/{count}</span><code>{}</code><span class=\"word\">{}</span><span class=\"time\">{time_shown}</span><span class=\"bytes\">{bytes}</span><span class=\"track\">{}</span></summary><div class=\"more\">{}</div></details>\n",
            tone(step).word(),
            escape(&step.stage),
            escape(&step.text),
            word(step),
            scale.bar(step, critical, ""),
            more(build, step, excerpts.get(&step.number)),
            n = step.number,
        ));
    }
    out.push_str("</div></section>\n");
    out
}

fn more(build: &BuildRecord, step: &StepRecord, excerpt: Option<&Excerpt>) -> String {
    let mut lines: Vec<String> = Vec::new();
    match (&step.hit, &step.reason) {
        (Some(hit), _) => lines.push(format!(
            "record {} from {}; it took {} then",
            hit.key.chars().take(16).collect::<String>(),
            units::time_ms(hit.created * 1000),
            shown(hit.took_ms)
        )),
        (None, Some(MissReason::Changed { changes })) => {
            lines.extend(changes.iter().map(|change| format!("since {change}")));
        }
        (None, Some(reason)) => lines.push(format!("since {reason}")),
        (None, None) => {}
    }
    for cause in build.explain(step).behind {
        let why = cause.reason.as_ref().map_or_else(String::new, |reason| format!(", since {reason}"));
        lines.push(format!("#{} {} ran{why}", cause.number, cause.text));
    }
    if let Some((entries, bytes)) = step.context {
        lines.push(format!("read {entries} entries, {} of the context", units::bytes(bytes)));
    }
    if let Some(layer) = &step.layer {
        lines.push(format!("layer {layer}"));
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
    let mut out = format!("<ul>{items}</ul>");
    if let Some(excerpt) = excerpt.filter(|excerpt| !excerpt.lines.is_empty()) {
        if excerpt.before > 0 {
            out.push_str(&format!(
                "<p class=\"hint\">{} lines before these: <code>dunnage builds logs {} --step {}</code></p>",
                excerpt.before,
                escape(&build.id),
                step.number
            ));
        }
        let text: Vec<String> = excerpt.lines.iter().map(|line| escape(line)).collect();
        out.push_str(&format!("<pre>{}</pre>", text.join("\n")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_foreign_text_stays_text() {
        let mut excerpts: BTreeMap<usize, Excerpt> = BTreeMap::new();
        excerpts.entry(2).or_default().add(vec!["<b>log & \u{1b}]0;x\u{7}</b>".to_owned()], 5);
        let page = page(&super::super::tests::build(), &excerpts);
        for loads in ["http:", "https:", "src=\"", "@import", "url(h", "<link"] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(loads);
            assert!(!found, "{loads}");
        }
        assert!(!page.contains("<img") && !page.contains("<b>log") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;b&gt;log &amp; "), "the log is shown");
        assert_eq!(page.matches("</script>").count(), 1);
    }

    #[test]
    fn marks_are_round_and_at_most_ten() {
        for (end, tick) in [(5, 1), (12, 2), (49, 5), (3200, 500), (61_000, 10_000)] {
            let mut build = super::super::tests::build();
            build.took_ms = end;
            build.steps.clear();
            assert_eq!(Scale::of(&build).tick, tick, "{end}");
        }
    }
}
