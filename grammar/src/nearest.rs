//! "Did you mean": the nearest of some names by edit distance.

/// The candidate that is spelled most like `word`, when it is near enough to be a slip.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = word.chars().flat_map(char::to_lowercase).take(100).collect();
    let limit = (wanted.len() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        // Each insertion or deletion costs one: most candidates need no look at their letters.
        if candidate.len() > (wanted.len() + limit) * 4 || candidate.chars().count().abs_diff(wanted.len()) > limit {
            continue;
        }
        let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).take(100).collect();
        let distance = distance(&wanted, &letters);
        if distance <= limit && best.is_none_or(|(known, _)| distance < known) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, changes, and neighbours swapped.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (get(&last, j) + usize::from(a != b)).min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let words = ["COPY", "CMD", "ADD", "ENTRYPOINT"];
        assert_eq!(nearest("COYP", words), Some("COPY"));
        assert_eq!(nearest("entrypont", words), Some("ENTRYPOINT"));
        assert_eq!(nearest("FROBNICATE", words), None);
    }
}
