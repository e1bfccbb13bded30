//! Where steps stand and how lines run, in pixels.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, Node};

/// Size of a step.
pub(super) const WIDTH: i32 = 264;
pub(super) const HEIGHT: i32 = 46;
/// Between lanes: lines run here.
const GUTTER: i32 = 56;
/// Between rows: lines and the heads of lanes stand here.
const GAP: i32 = 52;
/// Around all.
const MARGIN: i32 = 28;
/// Room for the head of a lane.
pub(super) const HEAD: i32 = 34;
/// Lines of one gap that can be told apart, and how far they are from each other.
const TRACKS: i32 = 5;
const TRACK: i32 = 6;

/// The picture's geometry.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: i32,
    pub(super) height: i32,
    /// Stage, the images it stands on, and its rectangle.
    pub(super) lanes: Vec<Lane>,
    /// Upper left corner of each step, by number.
    pub(super) places: BTreeMap<usize, (i32, i32)>,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) stage: String,
    pub(super) bases: String,
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) height: i32,
}

/// The way from one step to another, corner by corner.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) points: Vec<(i32, i32)>,
    /// Files are taken from another stage, or from the step before.
    pub(super) across: bool,
}

pub(super) fn layout(graph: &Graph) -> Layout {
    let stages = stages(graph);
    let columns = columns(&stages);
    let cells: BTreeMap<usize, Cell> = stages
        .iter()
        .zip(&columns)
        .flat_map(|(stage, column)| stage.rows.iter().map(|(number, row)| (*number, (*column, *row))))
        .collect();
    let rows = count(stages.iter().map(|stage| stage.last() + 1).max().unwrap_or(0));
    let wide = count(columns.iter().copied().max().map_or(0, |last| last + 1));
    let mut layout = Layout {
        width: 2 * MARGIN + wide * (WIDTH + GUTTER) + GUTTER,
        height: 2 * MARGIN + HEAD + rows * (HEIGHT + GAP) - GAP,
        lanes: stages.iter().zip(&columns).map(|(stage, column)| lane(stage, *column)).collect(),
        places: cells.iter().map(|(number, cell)| (*number, place(*cell))).collect(),
        lines: Vec::new(),
    };
    let taken: BTreeSet<Cell> = cells.values().copied().collect();
    let mut tracks = Tracks::default();
    let stage_of = |number: &usize| stages.iter().position(|stage| stage.rows.contains_key(number));
    for node in &graph.nodes {
        for input in &node.inputs {
            if let (Some(from), Some(to)) = (cells.get(input), cells.get(&node.number)) {
                let across = stage_of(input) != stage_of(&node.number);
                let points = way(*from, *to, across, &taken, &mut tracks);
                layout.lines.push(Line { from: *input, to: node.number, points, across });
            }
        }
    }
    layout
}

/// Column and row.
type Cell = (usize, usize);

struct Stage<'a> {
    name: &'a str,
    bases: Vec<&'a str>,
    /// The row of each of its steps.
    rows: BTreeMap<usize, usize>,
}

impl Stage<'_> {
    fn first(&self) -> usize {
        self.rows.values().copied().min().unwrap_or(0)
    }

    fn last(&self) -> usize {
        self.rows.values().copied().max().unwrap_or(0)
    }
}

/// The stages in order, each step a row below all that it needs.
fn stages(graph: &Graph) -> Vec<Stage<'_>> {
    let mut stages: Vec<Stage<'_>> = Vec::new();
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    for node in &graph.nodes {
        let below = node.inputs.iter().filter_map(|input| rows.get(input)).map(|row| row + 1).max().unwrap_or(0);
        let at = stages.iter().position(|stage| stage.name == node.stage).unwrap_or(stages.len());
        if at == stages.len() {
            stages.push(Stage { name: &node.stage, bases: Vec::new(), rows: BTreeMap::new() });
        }
        let Some(stage) = stages.get_mut(at) else { continue };
        let row = if stage.rows.is_empty() { below } else { below.max(stage.last() + 1) };
        stage.rows.insert(node.number, row);
        rows.insert(node.number, row);
        for base in bases_of(node) {
            if !stage.bases.contains(&base) {
                stage.bases.push(base);
            }
        }
    }
    stages
}

/// The leftmost column in which a stage's rows are free.
fn columns(stages: &[Stage<'_>]) -> Vec<usize> {
    let mut taken: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut columns = Vec::new();
    for stage in stages {
        let (first, last) = (stage.first(), stage.last());
        let is_free = |rows: &Vec<(usize, usize)>| rows.iter().all(|(a, b)| last < *a || first > *b);
        let column = taken.iter().position(is_free).unwrap_or(taken.len());
        if column == taken.len() {
            taken.push(Vec::new());
        }
        if let Some(rows) = taken.get_mut(column) {
            rows.push((first, last));
        }
        columns.push(column);
    }
    columns
}

fn lane(stage: &Stage<'_>, column: usize) -> Lane {
    let (x, y) = place((column, stage.first()));
    let height = count(stage.last() - stage.first()) * (HEIGHT + GAP) + HEIGHT + HEAD + 12;
    Lane { stage: stage.name.to_owned(), bases: stage.bases.join(", "), x: x - 12, y: y - HEAD, height }
}

fn bases_of(node: &Node) -> impl Iterator<Item = &str> {
    node.bases.iter().map(String::as_str)
}

fn place((column, row): Cell) -> (i32, i32) {
    (MARGIN + GUTTER + count(column) * (WIDTH + GUTTER), MARGIN + HEAD + count(row) * (HEIGHT + GAP))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(0)
}

/// Which tracks of each gutter and gap are taken, in turn.
#[derive(Default)]
struct Tracks {
    gutters: BTreeMap<i32, i32>,
    gaps: BTreeMap<i32, i32>,
}

fn turn(of: &mut BTreeMap<i32, i32>, at: i32) -> i32 {
    let next = of.entry(at).or_default();
    let track = *next % TRACKS - TRACKS / 2;
    *next += 1;
    at + track * TRACK
}

fn way(from: Cell, to: Cell, across: bool, taken: &BTreeSet<Cell>, tracks: &mut Tracks) -> Vec<(i32, i32)> {
    let ((x1, y1), (x2, y2)) = (place(from), place(to));
    let free = (from.1 + 1..to.1).all(|row| !taken.contains(&(from.0, row)));
    if from.0 == to.0 && free {
        // Beside the head of the lane that it enters.
        let x = if across { WIDTH - 24 } else { WIDTH / 2 };
        return vec![(x1 + x, y1 + HEIGHT), (x2 + x, y2)];
    }
    // Out at the side of the other lane, and in at the side that it comes from.
    let (out, near, far, into) = if to.0 > from.0 {
        (x1 + WIDTH, x1 + WIDTH + GUTTER / 2, x2 - GUTTER / 2, x2)
    } else if to.0 < from.0 {
        (x1, x1 - GUTTER / 2, x2 + WIDTH + GUTTER / 2, x2 + WIDTH)
    } else {
        (x1, x1 - GUTTER / 2, x2 - GUTTER / 2, x2)
    };
    let (middle1, middle2) = (y1 + HEIGHT / 2, y2 + HEIGHT / 2);
    if near == far {
        let x = turn(&mut tracks.gutters, near);
        return vec![(out, middle1), (x, middle1), (x, middle2), (into, middle2)];
    }
    let (a, b) = (turn(&mut tracks.gutters, near), turn(&mut tracks.gutters, far));
    let gap = turn(&mut tracks.gaps, y1 + HEIGHT + GAP / 4);
    vec![(out, middle1), (a, middle1), (a, gap), (b, gap), (b, middle2), (into, middle2)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::tests::node;
    use super::*;

    /// A file of four stages that take from each other, the last from all.
    fn graph() -> Graph {
        let nodes = vec![
            node(1, "a", "RUN", &[]),
            node(2, "a", "RUN", &[1]),
            node(3, "b", "RUN", &[]),
            node(4, "b", "COPY", &[3, 2]),
            node(5, "c", "RUN", &[1]),
            node(6, "d", "COPY", &[4, 2]),
            node(7, "d", "COPY", &[6, 5]),
            node(8, "a", "RUN", &[1]),
        ];
        Graph { title: String::new(), nodes }
    }

    #[test]
    fn steps_stand_below_what_they_need_and_never_on_each_other() {
        let layout = layout(&graph());
        let places: BTreeSet<_> = layout.places.values().collect();
        assert_eq!(places.len(), 8);
        for (one, other) in layout.lanes.iter().flat_map(|one| layout.lanes.iter().map(move |other| (one, other))) {
            let apart = one.x != other.x || one.y + one.height <= other.y || other.y + other.height <= one.y;
            assert!(apart || one.stage == other.stage, "{one:?} {other:?}");
        }
        for line in &layout.lines {
            assert!(layout.places[&line.from].1 < layout.places[&line.to].1, "{line:?}");
        }
    }

    #[test]
    fn no_line_crosses_a_step() {
        let layout = layout(&graph());
        for line in &layout.lines {
            for pair in line.points.windows(2) {
                let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
                for (number, (x, y)) in &layout.places {
                    let inside =
                        x1.min(x2) < x + WIDTH && x1.max(x2) > *x && y1.min(y2) < y + HEIGHT && y1.max(y2) > *y;
                    assert!(!inside, "{line:?} crosses {number} at {x},{y}");
                }
            }
        }
        assert!(
            layout
                .lines
                .iter()
                .flat_map(|line| &line.points)
                .all(|(x, y)| *x > 0 && *x < layout.width && *y > 0 && *y < layout.height)
        );
    }
}
