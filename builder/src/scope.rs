//! The variables that a word sees: ENV and ARG of a stage, in the order they were set.

use std::collections::BTreeMap;

use grammar::Scope;

/// Ordered name → value pairs; setting a name again keeps its place, as the field's tools do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    pairs: Vec<(String, String)>,
}

impl Variables {
    pub(crate) fn from_env(env: &[String]) -> Self {
        let mut variables = Variables::default();
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            variables.set(name, value);
        }
        variables
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.pairs.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl Scope for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.value(name)
    }

    fn names(&self) -> Vec<&str> {
        self.pairs.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// One ARG as a stage declared it, in declaration order: history and `RUN |N …` show them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredArg {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// The global scope: what FROM lines see.
pub(crate) fn global_scope(automatic: &BTreeMap<String, String>, declared: &[DeclaredArg]) -> Variables {
    let mut variables = Variables::default();
    for (name, value) in automatic {
        variables.set(name, value);
    }
    for arg in declared {
        if let Some(value) = &arg.value {
            variables.set(&arg.name, value);
        }
    }
    variables
}
