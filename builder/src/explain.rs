//! The reason of a miss: the difference between what a step sees and what it saw in the build before.

use std::collections::BTreeMap;

use crate::key::KeyParts;
use crate::listing;
use crate::memory::{Memory, Seen, shortened};
use crate::verdict::{Change, FileChange};

/// Characters of a value that a reason shows.
const SHOWN: usize = 80;

/// Changes that a reason names.
const CHANGES: usize = 40;

/// Where the layers that a step sees come from, by tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Maker {
    /// A base image.
    Base(String),
    /// A step, by number.
    Step(usize),
}

/// All that a difference needs beside the two lists.
pub(crate) struct Explainer<'a> {
    pub(crate) memory: &'a Memory,
    /// What gave each tree that is among the step's inputs.
    pub(crate) makers: &'a BTreeMap<String, Maker>,
    /// Listings of the selected sources, by digest.
    pub(crate) listings: &'a BTreeMap<String, Vec<u8>>,
    /// The instruction on one line.
    pub(crate) text: &'a str,
}

type Parts = Vec<(String, String)>;

impl Explainer<'_> {
    /// What differs between `keys` and what the step saw before. Empty when all that was asked is the same.
    pub(crate) fn changes(&self, keys: &[KeyParts], before: &Seen) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        if before.name.text != self.text {
            changes.push(Change::Instruction { old: short(&before.name.text), new: short(self.text) });
        }
        for key in keys {
            let new: Parts = key.parts().iter().map(shortened).collect();
            // Lists of one kind are compared: COPY has two.
            let Some(old) = before.keys.iter().find(|old| kind(old) == kind(&new)) else { continue };
            for change in self.difference(old, &new) {
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
        }
        // What the text says already need not be told again by its parts.
        if matches!(changes.first(), Some(Change::Instruction { .. })) {
            changes.retain(|change| !matches!(change, Change::Setting { name, .. } if is_of_text(name)));
        } else {
            changes.iter_mut().for_each(argument_as_instruction);
        }
        changes.truncate(CHANGES);
        changes
    }

    fn difference(&self, old: &Parts, new: &Parts) -> Vec<Change> {
        let (then, now) = (by_name(old), by_name(new));
        let mut changes = self.trees(old, new);
        for (name, value) in &now {
            if is_tree(name) || then.get(name) == Some(value) {
                continue;
            }
            self.part(name, then.get(name).copied(), Some(value), &mut changes);
        }
        for (name, value) in &then {
            if !is_tree(name) && !now.contains_key(name) {
                self.part(name, Some(value), None, &mut changes);
            }
        }
        changes
    }

    fn part(&self, name: &str, old: Option<&str>, new: Option<&str>, changes: &mut Vec<Change>) {
        if let Some(path) = name.strip_prefix("content of ") {
            return changes.extend(self.source(path, old, new));
        }
        let shown = |value: Option<&str>| value.map(short);
        changes.push(match name.strip_prefix("environment ") {
            Some(variable) if grammar::is_secret(variable) => {
                let hidden = |value: Option<&str>| value.map(|_| "(not shown)".to_owned());
                Change::Variable { name: variable.to_owned(), old: hidden(old), new: hidden(new) }
            }
            Some(variable) => Change::Variable { name: variable.to_owned(), old: shown(old), new: shown(new) },
            None => Change::Setting { name: name.to_owned(), old: shown(old), new: shown(new) },
        });
    }

    /// A source by its files, where both listings are known.
    fn source(&self, path: &str, old: Option<&str>, new: Option<&str>) -> Vec<Change> {
        let how = match (old, new) {
            (None, _) => FileChange::Added,
            (_, None) => FileChange::Removed,
            (Some(old), Some(new)) => {
                if let (Some(then), Some(now)) = (self.memory.listing(old), self.listings.get(new)) {
                    let files = listing::difference(path, &then, now);
                    if !files.is_empty() {
                        return files;
                    }
                    return vec![Change::Source { path: named(path), how: FileChange::Mode }];
                }
                FileChange::Content
            }
        };
        vec![Change::Source { path: named(path), how }]
    }

    /// Layers that were not there before, by what made them; and those that are gone, when nothing came in their place.
    fn trees(&self, old: &Parts, new: &Parts) -> Vec<Change> {
        let trees = |parts: &Parts| -> Vec<(String, String)> {
            let trees = parts.iter().filter(|(name, _)| is_tree(name));
            trees.map(|(name, value)| (tree_of(name).to_owned(), value.clone())).collect()
        };
        let (then, now) = (trees(old), trees(new));
        if then == now {
            return Vec::new();
        }
        let mut changes: Vec<Change> = Vec::new();
        for (_, tree) in now.iter().filter(|tree| !then.contains(tree)) {
            let change = match self.makers.get(tree) {
                Some(Maker::Base(image)) => Change::Base { image: image.clone() },
                Some(Maker::Step(step)) => Change::Step { step: *step },
                None => continue,
            };
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        if changes.is_empty() {
            let gone = then.iter().filter(|tree| !now.contains(tree));
            changes.extend(
                gone.filter_map(|(_, tree)| Some(Change::Removed { text: short(&self.memory.maker(tree)?.text) })),
            );
        }
        if changes.is_empty() {
            changes.push(Change::Setting { name: "order of the layers below".to_owned(), old: None, new: None });
        }
        changes
    }
}

/// `input layer 3` is `input`.
fn tree_of(name: &str) -> &str {
    name.rsplit_once(" layer ").map_or(name, |(tree, _)| tree)
}

pub(crate) fn is_tree(name: &str) -> bool {
    name.rsplit_once(" layer ").is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Parts that say again what the instruction's text says.
fn is_of_text(name: &str) -> bool {
    ["argument ", "source ", "destination", "--", "script", "path", "unpack"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// A command whose text is the same and whose words are not: SHELL, or a heredoc.
fn argument_as_instruction(change: &mut Change) {
    if let Change::Setting { name, old: Some(old), new: Some(new) } = change
        && (name.starts_with("argument ") || name == "script")
    {
        *change = Change::Instruction { old: old.clone(), new: new.clone() };
    }
}

fn named(path: &str) -> String {
    if path.is_empty() { ".".to_owned() } else { path.to_owned() }
}

fn kind(parts: &[(String, String)]) -> Option<&str> {
    parts.iter().find(|(name, _)| name == "step").map(|(_, kind)| kind.as_str())
}

fn by_name(parts: &Parts) -> BTreeMap<&str, &str> {
    parts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn short(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).take(SHOWN + 1).collect();
    if one_line.chars().count() <= SHOWN {
        return one_line;
    }
    let mut cut: String = one_line.chars().take(SHOWN).collect();
    cut.push('…');
    cut
}
