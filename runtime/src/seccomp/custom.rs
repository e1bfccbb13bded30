//! A filter that somebody else wrote: rules by call and argument, as OCI configurations hold them, compiled to the same tree.
use std::collections::HashMap;

use super::compile::{self, Abi, RETURN_ERRNO};
use super::{Instruction, Program, profile};
use crate::error::{Error, Result};

/// A list of rules. The first that fits decides; where none fits, the default does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompProfile {
    /// For calls that no rule names.
    pub default: SeccompAction,
    /// The ABIs that the rules are for, beside the machine's own; calls by any other end the process.
    pub abis: Vec<SeccompAbi>,
    /// Whether the kernel logs whatever is not allowed.
    pub log: bool,
    /// Whether speculation stays as it is for processes under the filter.
    pub allow_speculation: bool,
    /// The rules.
    pub rules: Vec<SeccompRule>,
}

/// What becomes of some calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompRule {
    /// Names of calls; one that an ABI does not have is passed over.
    pub names: Vec<String>,
    /// What becomes of them.
    pub action: SeccompAction,
    /// Conditions on arguments; all must hold.
    pub conditions: Vec<SeccompCondition>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum SeccompAction {
    Allow,
    Log,
    /// The call gives this error.
    Errno(u16),
    /// A tracer gets this number.
    Trace(u16),
    Trap,
    KillThread,
    KillProcess,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompCondition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub comparison: SeccompComparison,
}

/// Comparisons of an argument, all 64 bits of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SeccompComparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The bits of the mask have this value.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// The ABIs for which there are tables of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum SeccompAbi {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

impl SeccompAbi {
    fn audit(self) -> u32 {
        match self {
            SeccompAbi::X86_64 => 0xC000_003E,
            SeccompAbi::X86 => 0x4000_0003,
            SeccompAbi::Aarch64 => 0xC000_00B7,
            SeccompAbi::Arm => 0x4000_0028,
        }
    }
}

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// The kernel takes no longer programs.
const MOST_INSTRUCTIONS: usize = 4096;
// linux/seccomp.h.
const FLAG_LOG: u32 = 2;
const FLAG_ALLOW_SPECULATION: u32 = 4;

impl SeccompAction {
    fn answer(self) -> u32 {
        match self {
            SeccompAction::Allow => 0x7FFF_0000,
            SeccompAction::Log => 0x7FFC_0000,
            SeccompAction::Errno(errno) => RETURN_ERRNO | u32::from(errno),
            SeccompAction::Trace(number) => 0x7FF0_0000 | u32::from(number),
            SeccompAction::Trap => 0x0003_0000,
            SeccompAction::KillThread => 0,
            SeccompAction::KillProcess => 0x8000_0000,
        }
    }
}

impl Program {
    /// Compiles a profile.
    pub(crate) fn custom(profile: &SeccompProfile) -> Result<Program> {
        if profile.rules.iter().flat_map(|rule| &rule.conditions).any(|condition| condition.index > 5) {
            return Err(Error::invalid("seccomp", "arguments are counted from 0 to 5"));
        }
        let Some((native, others)) = profile::abis().split_first() else {
            return Err(Error::invalid("seccomp", "there is no list of calls for this architecture"));
        };
        let listed = |abi: &&Abi| profile.abis.iter().any(|listed| listed.audit() == abi.audit);
        let abis: Vec<&Abi> = [native].into_iter().chain(others.iter().filter(listed)).collect();
        let mut rules: HashMap<&str, Vec<&SeccompRule>> = HashMap::new();
        for rule in &profile.rules {
            for name in &rule.names {
                rules.entry(name).or_default().push(rule);
            }
        }
        // A call that is younger than the profile does not exist, so that libraries try something older.
        let absent = match profile.default {
            SeccompAction::Errno(EPERM) => SeccompAction::Errno(ENOSYS),
            other => other,
        };
        let default = vec![compile::answer(profile.default.answer())];
        let leaf = |name: &str| rules.get(name).map_or_else(|| default.clone(), |rules| body(rules, profile.default));
        let instructions = compile::compile(&abis, vec![compile::answer(absent.answer())], leaf, Vec::clone);
        if instructions.len() > MOST_INSTRUCTIONS {
            return Err(Error::invalid("seccomp", "has more rules than the kernel takes"));
        }
        let mut program = Program::new(instructions);
        program.flags =
            u32::from(profile.log) * FLAG_LOG + u32::from(profile.allow_speculation) * FLAG_ALLOW_SPECULATION;
        Ok(program)
    }
}

fn body(rules: &[&SeccompRule], default: SeccompAction) -> Vec<Instruction> {
    let mut program = Vec::new();
    for rule in rules {
        program.extend(one(rule));
        if rule.conditions.is_empty() {
            return program;
        }
    }
    program.push(compile::answer(default.answer()));
    program
}

/// Where a test leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// Behind this condition, which holds.
    Held,
    /// Behind this rule, which does not fit.
    Unfit,
}

struct Step(u16, u32, To, To);

fn one(rule: &SeccompRule) -> Vec<Instruction> {
    let conditions: Vec<Vec<Step>> = rule.conditions.iter().map(|condition| steps(*condition)).collect();
    // The answer of the rule comes last.
    let length = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::new();
    for condition in conditions {
        let held = program.len() + condition.len();
        for Step(code, value, yes, no) in condition {
            let here = program.len() + 1;
            let distance = |to| match to {
                To::Next => 0,
                // Six conditions have at most 36 steps.
                To::Held => u8::try_from(held - here).unwrap_or(u8::MAX),
                To::Unfit => u8::try_from(length - here).unwrap_or(u8::MAX),
            };
            program.push(Instruction { code, if_true: distance(yes), if_false: distance(no), value });
        }
    }
    program.push(compile::answer(rule.action.answer()));
    program
}

/// The two halves of the argument, the high one first.
fn steps(condition: SeccompCondition) -> Vec<Step> {
    use compile::{AND, AT_LEAST, EQUAL, FIRST_ARGUMENT, LOAD, MORE};
    let low_at = FIRST_ARGUMENT + 8 * u32::from(condition.index);
    let load = |at| Step(LOAD, at, To::Next, To::Next);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // `yes` is for a greater high half, `low` tests the low halves when the high ones are equal.
    let ordered = |value: u64, greater: To, less: To, low: u16, yes: To, no: To| {
        let (high, low_value) = halves(value);
        vec![
            load(low_at + 4),
            Step(MORE, high, greater, To::Next),
            Step(EQUAL, high, To::Next, less),
            load(low_at),
            Step(low, low_value, yes, no),
        ]
    };
    match condition.comparison {
        SeccompComparison::Equal(value) => {
            let (high, low) = halves(value);
            vec![
                load(low_at + 4),
                Step(EQUAL, high, To::Next, To::Unfit),
                load(low_at),
                Step(EQUAL, low, To::Next, To::Unfit),
            ]
        }
        SeccompComparison::NotEqual(value) => {
            let (high, low) = halves(value);
            vec![
                load(low_at + 4),
                Step(EQUAL, high, To::Next, To::Held),
                load(low_at),
                Step(EQUAL, low, To::Unfit, To::Next),
            ]
        }
        SeccompComparison::Greater(value) => ordered(value, To::Held, To::Unfit, MORE, To::Next, To::Unfit),
        SeccompComparison::GreaterOrEqual(value) => ordered(value, To::Held, To::Unfit, AT_LEAST, To::Next, To::Unfit),
        SeccompComparison::Less(value) => ordered(value, To::Unfit, To::Held, AT_LEAST, To::Unfit, To::Next),
        SeccompComparison::LessOrEqual(value) => ordered(value, To::Unfit, To::Held, MORE, To::Unfit, To::Next),
        SeccompComparison::Masked { mask, value } => {
            let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
            vec![
                load(low_at + 4),
                Step(AND, mask_high, To::Next, To::Next),
                Step(EQUAL, high, To::Next, To::Unfit),
                load(low_at),
                Step(AND, mask_low, To::Next, To::Next),
                Step(EQUAL, low, To::Next, To::Unfit),
            ]
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::seccomp::compile::tests::run_with;

    fn profile(rules: Vec<SeccompRule>) -> SeccompProfile {
        let default = SeccompAction::Errno(EPERM);
        SeccompProfile { default, abis: vec![SeccompAbi::X86], log: false, allow_speculation: false, rules }
    }

    fn rule(name: &str, action: SeccompAction, conditions: &[(u8, SeccompComparison)]) -> SeccompRule {
        let conditions =
            conditions.iter().map(|(index, comparison)| SeccompCondition { index: *index, comparison: *comparison });
        SeccompRule { names: vec![name.to_owned()], action, conditions: conditions.collect() }
    }

    type Holds = fn(u64, u64) -> bool;

    #[test]
    fn every_comparison_looks_at_all_64_bits() {
        use SeccompComparison as C;
        let native = &profile::abis()[0];
        let number = (native.calls)().iter().find(|(_, name)| *name == "personality").unwrap().0;
        let values = [0, 1, 5, 6, 7, 1 << 32, (1 << 32) + 5, (5 << 32) + 6, (5 << 32) + 5, (6 << 32) + 5, u64::MAX];
        for limit in values {
            let cases: [(C, Holds); 7] = [
                (C::Equal(limit), |a, b| a == b),
                (C::NotEqual(limit), |a, b| a != b),
                (C::Less(limit), |a, b| a < b),
                (C::LessOrEqual(limit), |a, b| a <= b),
                (C::Greater(limit), |a, b| a > b),
                (C::GreaterOrEqual(limit), |a, b| a >= b),
                (C::Masked { mask: limit, value: limit & 5 }, |a, b| a & b == b & 5),
            ];
            for (comparison, holds) in cases {
                let rules = vec![rule("personality", SeccompAction::Allow, &[(3, comparison), (0, C::Equal(9))])];
                let program = Program::custom(&profile(rules)).unwrap();
                for argument in values {
                    for first in [9, 8] {
                        let answer = run_with(program.instructions(), native.audit, number, &[first, 0, 0, argument]);
                        let wanted = holds(argument, limit) && first == 9;
                        assert_eq!(answer == 0x7FFF_0000, wanted, "{comparison:?} {argument:#x} {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_young_calls_do_not_exist() {
        let rules = vec![
            rule("socket", SeccompAction::Errno(22), &[(0, SeccompComparison::Equal(16))]),
            rule("socket", SeccompAction::Allow, &[]),
            rule("reboot", SeccompAction::KillProcess, &[]),
        ];
        let program = Program::custom(&profile(rules)).unwrap();
        for abi in profile::abis() {
            let calls = (abi.calls)();
            let ask = |name: &str, argument: u64| {
                let number = calls.iter().find(|(_, known)| *known == name).unwrap().0;
                run_with(program.instructions(), abi.audit, number, &[argument, 0, 0, 0])
            };
            assert_eq!((ask("socket", 16), ask("socket", 1)), (RETURN_ERRNO | 22, 0x7FFF_0000));
            assert_eq!((ask("reboot", 0), ask("getpid", 0)), (0x8000_0000, RETURN_ERRNO | 1));
            assert_eq!(run_with(program.instructions(), abi.audit, 4000, &[0; 4]), RETURN_ERRNO | 38);
        }
        assert_eq!(run_with(program.instructions(), 7, 0, &[0; 4]), 0x8000_0000);
    }
}
