//! The graph as SVG: self-contained, for light and dark.

use super::layout::{HEAD, HEIGHT, Lane, Line, WIDTH, layout};
use super::{Graph, Node, foreign};

/// Characters that fit into a step.
const TEXT: usize = 31;
const NOTE: usize = 40;

/// Radius of corners.
const ROUND: i32 = 8;

const STYLE: &str = include_str!("graph.css");

impl Graph {
    /// A picture that stands for itself.
    pub(crate) fn svg(&self) -> String {
        self.picture(&format!("<style>{STYLE}</style>"))
    }

    /// The picture, inside a page that has its style.
    pub(crate) fn inline_svg(&self) -> String {
        self.picture("")
    }

    /// The style of [`Graph::inline_svg`].
    pub(crate) fn style() -> &'static str {
        STYLE
    }

    fn picture(&self, style: &str) -> String {
        let layout = layout(self);
        let (width, height) = (layout.width, layout.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plan\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n{style}\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0 8 4 0 8z\"/></marker></defs>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
            escape(&self.title)
        );
        layout.lanes.iter().for_each(|one| lane(&mut out, one));
        layout.lines.iter().for_each(|one| line(&mut out, one));
        for node in &self.nodes {
            if let Some((x, y)) = layout.places.get(&node.number) {
                step(&mut out, node, *x, *y);
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

fn lane(out: &mut String, lane: &Lane) {
    let Lane { stage, bases, x, y, height } = lane;
    let from = if bases.is_empty() { String::new() } else { format!("from {bases}") };
    let room = 31_usize.saturating_sub(stage.chars().count());
    out.push_str(&format!(
        "<g class=\"lane\"><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\" rx=\"12\"/><text x=\"{}\" y=\"{}\"><tspan class=\"stage\">{}</tspan><tspan class=\"from\" dx=\"8\">{}</tspan></text></g>\n",
        WIDTH + 24,
        x + 14,
        y + HEAD - 12,
        escape(&cut(stage, 24)),
        escape(&cut(&from, room)),
    ));
}

fn line(out: &mut String, line: &Line) {
    let class = if line.across { "line across" } else { "line" };
    out.push_str(&format!(
        "<path class=\"{class}\" data-from=\"{}\" data-to=\"{}\" d=\"{}\" marker-end=\"url(#tip)\"/>\n",
        line.from,
        line.to,
        path(&line.points)
    ));
}

/// Straight pieces with round corners.
fn path(points: &[(i32, i32)]) -> String {
    let mut out = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|at| points.get(at));
        match (before, points.get(index + 1)) {
            (None, _) => out.push_str(&format!("M{x} {y}")),
            (Some(_), None) => out.push_str(&format!(" L{x} {y}")),
            (Some((bx, by)), Some((nx, ny))) => {
                let toward = |from: i32, to: i32| (to - from).signum() * ROUND.min((to - from).abs() / 2);
                out.push_str(&format!(
                    " L{} {} Q{x} {y} {} {}",
                    x + toward(*x, *bx),
                    y + toward(*y, *by),
                    x + toward(*x, *nx),
                    y + toward(*y, *ny)
                ));
            }
        }
    }
    out
}

fn step(out: &mut String, node: &Node, x: i32, y: i32) {
    let strong = if node.strong { " strong" } else { "" };
    let whole = format!("#{} {}\n{}", node.number, node.text, node.note);
    out.push_str(&format!(
        "<g class=\"step {}{strong}\" data-step=\"{}\"><title>{}</title><rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/><rect class=\"mark\" x=\"{x}\" y=\"{}\" width=\"4\" height=\"{}\" rx=\"2\"/><text x=\"{}\" y=\"{}\"><tspan class=\"number\">#{}</tspan><tspan dx=\"6\">{}</tspan></text><text class=\"note\" x=\"{}\" y=\"{}\">{}</text></g>\n",
        node.tone.word(),
        node.number,
        escape(whole.trim_end()),
        y + 8,
        HEIGHT - 16,
        x + 14,
        y + 20,
        node.number,
        escape(&cut(&node.text, TEXT - digits(node.number))),
        x + 14,
        y + 36,
        escape(&cut(&node.note, NOTE)),
    ));
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

fn cut(text: &str, room: usize) -> String {
    let line = foreign::line(&text.replace('\n', " "));
    if line.chars().count() <= room {
        return line;
    }
    let mut cut: String = line.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Foreign text inside XML or HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in foreign::lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn what_is_foreign_stays_text() {
        let nodes = vec![node(1, "<script>", "RUN echo '</svg><script>alert(1)</script>' \"&\" \u{1b}[2J", &[])];
        let svg = Graph { title: "a<b".to_owned(), nodes }.svg();
        assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && svg.contains("a&lt;b"), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1);
    }

    #[test]
    fn corners_are_round_and_short_pieces_are_kept() {
        assert_eq!(path(&[(0, 0), (20, 0), (20, 30)]), "M0 0 L12 0 Q20 0 20 8 L20 30");
        assert_eq!(path(&[(0, 0), (0, 9)]), "M0 0 L0 9");
    }
}
