//! Names of containers that were given none: made of their id, so that they cost nothing and never change.

const QUALITIES: [&str; 32] = [
    "amber", "ample", "apt", "bold", "brave", "bright", "brisk", "calm", "clear", "crisp", "deft", "eager", "fair",
    "fleet", "frank", "glad", "hardy", "keen", "kind", "lively", "lucid", "merry", "neat", "noble", "plain", "quick",
    "quiet", "sage", "smart", "steady", "sunny", "witty",
];
const CARGO: [&str; 32] = [
    "anchor", "barge", "barrel", "bollard", "bosun", "buoy", "capstan", "cargo", "chest", "cleat", "clipper", "coil",
    "compass", "crane", "crate", "cutter", "davit", "dock", "ferry", "galley", "harbor", "hatch", "helm", "keel",
    "ketch", "mast", "mooring", "pallet", "pier", "quay", "rudder", "sloop",
];

/// The name of a container that has no other.
pub(crate) fn name_of(id: &str) -> String {
    let digits = |from: usize| id.get(from..from + 2).and_then(|pair| usize::from_str_radix(pair, 16).ok());
    let pick = |words: &[&'static str; 32], number: Option<usize>| {
        words.get(number.unwrap_or(0) % words.len()).copied().unwrap_or("dunnage")
    };
    let tail = id.get(..4).unwrap_or(id);
    format!("{}_{}_{tail}", pick(&QUALITIES, digits(4)), pick(&CARGO, digits(6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_id() {
        assert_eq!(name_of("0123456789"), "bright_cargo_0123");
        assert_eq!(name_of(""), "amber_anchor_");
    }
}
