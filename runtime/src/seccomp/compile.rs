//! From verdicts on calls to classic BPF: for each ABI a binary search over ranges of call numbers.
//!
//! The kernel tries a new filter on every call number to learn what is always allowed, so the length of the way through
//! it is paid hundreds of times at load: a list costs a millisecond, a tree a few dozen microseconds.
use super::Instruction;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// EPERM: it exists and is not permitted.
    Refuse,
    /// ENOSYS: it does not exist, so that libraries try something older.
    Absent,
    /// Another process answers it.
    Ask,
    /// It depends on the first argument; EPERM otherwise.
    Check(Check),
}

/// A condition on the low 32 bits of the first argument, which are all that the kernel itself looks at in these calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// None of these bits is set.
    NoneOf(u32),
    /// It is none of these.
    NotIn(&'static [u32]),
    /// It is one of these.
    In(&'static [u32]),
}

/// An ABI: how the kernel names it, and its calls by number.
#[derive(Debug)]
pub(super) struct Abi {
    pub(super) audit: u32,
    pub(super) calls: fn() -> Vec<(u32, &'static str)>,
}

// BPF_LD|W|ABS, BPF_JMP|JA, |JEQ|K, |JGE|K, |JSET|K, BPF_RET|K: linux/bpf_common.h.
pub(super) const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
pub(super) const MORE: u16 = 0x25;
pub(super) const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// SECCOMP_RET_*: linux/seccomp.h. The low half of an ERRNO is the error.
const RETURN_ALLOW: u32 = 0x7FFF_0000;
pub(super) const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_USER_NOTIF: u32 = 0x7FC0_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

// Offsets in struct seccomp_data, little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
pub(super) const FIRST_ARGUMENT: u32 = 16;

/// Numbers from this one to the next range's first.
#[derive(Clone, Debug)]
struct Range<V> {
    first: u32,
    verdict: V,
}

/// `absent` is for numbers that an ABI does not have, `leaf` makes the instructions of a verdict.
pub(super) fn compile<V: Clone + PartialEq>(
    abis: &[&Abi],
    absent: V,
    verdict: impl Fn(&str) -> V,
    leaf: fn(&V) -> Vec<Instruction>,
) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    for abi in abis {
        let mut calls = (abi.calls)();
        calls.sort_unstable();
        let ranges = ranges(calls.iter().map(|(number, name)| (*number, verdict(name))), &absent);
        let mut body = vec![statement(LOAD, NUMBER)];
        body.extend(search(&ranges, leaf));
        program.push(branch(EQUAL, abi.audit, 1, 0));
        program.push(skip(&body));
        program.extend(body);
    }
    program.push(statement(RETURN, RETURN_KILL_PROCESS));
    program
}

/// Asks for these calls of one ABI, and leaves all others to other filters.
pub(super) fn notifying(audit: u32, numbers: impl Iterator<Item = u32>) -> Vec<Instruction> {
    let numbers: std::collections::BTreeSet<u32> = numbers.collect();
    let mut ranges = vec![Range { first: 0, verdict: Verdict::Allow }];
    for &number in &numbers {
        if ranges.last().is_some_and(|last| last.first == number) {
            ranges.pop();
        }
        ranges.push(Range { first: number, verdict: Verdict::Ask });
        ranges.push(Range { first: number.saturating_add(1), verdict: Verdict::Allow });
    }
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        branch(EQUAL, audit, 1, 0),
        statement(RETURN, RETURN_ALLOW),
        statement(LOAD, NUMBER),
    ];
    program.extend(search(&ranges, |verdict| leaf(*verdict)));
    program
}

/// Numbers that the ABI does not have are absent: those between, and all behind the last, x32's among them.
fn ranges<V: Clone + PartialEq>(calls: impl Iterator<Item = (u32, V)>, absent: &V) -> Vec<Range<V>> {
    let mut ranges = vec![Range { first: 0, verdict: absent.clone() }];
    let mut add = |first: u32, verdict: V| match ranges.last_mut() {
        Some(last) if last.verdict == verdict => {}
        Some(last) if last.first == first => last.verdict = verdict,
        _ => ranges.push(Range { first, verdict }),
    };
    let mut next = 0;
    for (number, verdict) in calls {
        if number > next {
            add(next, absent.clone());
        }
        add(number, verdict);
        next = number.saturating_add(1);
    }
    add(next, absent.clone());
    ranges
}

fn search<V>(ranges: &[Range<V>], leaf: fn(&V) -> Vec<Instruction>) -> Vec<Instruction> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high.first()) {
        ([], None) => Vec::new(),
        ([], Some(only)) => leaf(&only.verdict),
        (_, Some(middle)) => {
            let first = middle.first;
            let (low, high) = (search(low, leaf), search(high, leaf));
            let mut program = match u8::try_from(low.len()) {
                Ok(length) => vec![branch(AT_LEAST, first, length, 0)],
                // The way is longer than a branch can name.
                Err(_) => vec![branch(AT_LEAST, first, 0, 1), skip(&low)],
            };
            program.extend(low);
            program.extend(high);
            program
        }
        (_, None) => Vec::new(),
    }
}

pub(super) fn leaf(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![statement(RETURN, RETURN_ALLOW)],
        Verdict::Refuse => vec![statement(RETURN, RETURN_ERRNO | EPERM)],
        Verdict::Absent => vec![statement(RETURN, RETURN_ERRNO | ENOSYS)],
        Verdict::Ask => vec![statement(RETURN, RETURN_USER_NOTIF)],
        Verdict::Check(check) => checked(check),
    }
}

/// `load; tests…; return A; return B`, where each test that holds leads to the last instruction.
fn checked(check: Check) -> Vec<Instruction> {
    let (code, values, otherwise, held) = match &check {
        Check::NoneOf(bits) => (ANY_BIT, std::slice::from_ref(bits), RETURN_ALLOW, RETURN_ERRNO | EPERM),
        Check::NotIn(values) => (EQUAL, *values, RETURN_ALLOW, RETURN_ERRNO | EPERM),
        Check::In(values) => (EQUAL, *values, RETURN_ERRNO | EPERM, RETURN_ALLOW),
    };
    let mut program = vec![statement(LOAD, FIRST_ARGUMENT)];
    // The last test skips the first return alone, the one before it one instruction more, and so on.
    let tests = values.iter().rev().zip(1_u8..).map(|(value, distance)| branch(code, *value, distance, 0));
    let mut tests: Vec<Instruction> = tests.collect();
    tests.reverse();
    program.extend(tests);
    program.push(statement(RETURN, otherwise));
    program.push(statement(RETURN, held));
    program
}

/// The end of a way: the kernel's answer.
pub(super) fn answer(value: u32) -> Instruction {
    statement(RETURN, value)
}

fn statement(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

/// A jump over all of it. A program has at most 4096 instructions, so the length fits.
fn skip(over: &[Instruction]) -> Instruction {
    statement(JUMP, u32::try_from(over.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
pub(super) mod tests {
    use super::*;
    use crate::capability::{Capability, CapabilitySet};
    use crate::seccomp::{Program, profile};

    /// The kernel's machine, as far as these programs use it. Gives the answer and the steps it took.
    fn run(program: &[Instruction], audit: u32, number: u32, argument: u32) -> (u32, usize) {
        interpret(program, audit, number, &[u64::from(argument)])
    }

    /// The answer alone, with whole arguments.
    pub(crate) fn run_with(program: &[Instruction], audit: u32, number: u32, arguments: &[u64]) -> u32 {
        interpret(program, audit, number, arguments).0
    }

    fn interpret(program: &[Instruction], audit: u32, number: u32, arguments: &[u64]) -> (u32, usize) {
        let (mut at, mut register) = (0_usize, 0_u32);
        for steps in 1.. {
            let instruction = program[at];
            at += 1;
            let mut branch =
                |taken: bool| at += usize::from(if taken { instruction.if_true } else { instruction.if_false });
            match instruction.code {
                LOAD => {
                    register = match instruction.value {
                        NUMBER => number,
                        ARCHITECTURE => audit,
                        offset => {
                            let argument = arguments[((offset - FIRST_ARGUMENT) / 8) as usize];
                            if offset % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
                        }
                    }
                }
                EQUAL => branch(register == instruction.value),
                AT_LEAST => branch(register >= instruction.value),
                ANY_BIT => branch(register & instruction.value != 0),
                MORE => branch(register > instruction.value),
                AND => register &= instruction.value,
                JUMP => at += instruction.value as usize,
                RETURN => return (instruction.value, steps),
                other => panic!("code {other}"),
            }
        }
        unreachable!()
    }

    fn expected(verdict: Option<Verdict>) -> u32 {
        match verdict {
            Some(Verdict::Allow) => RETURN_ALLOW,
            Some(Verdict::Refuse) => RETURN_ERRNO | EPERM,
            None | Some(Verdict::Absent) => RETURN_ERRNO | ENOSYS,
            Some(Verdict::Check(_) | Verdict::Ask) => panic!("depends"),
        }
    }

    #[test]
    fn security_s07_every_number_of_every_abi_has_its_verdict() {
        for granted in [CapabilitySet::DOCKER, CapabilitySet::EMPTY, CapabilitySet::from_bits(u64::MAX)] {
            let program = Program::standard(granted).unwrap();
            let rules = profile::rules(granted);
            for abi in profile::abis() {
                let calls: std::collections::HashMap<u32, &str> = (abi.calls)().into_iter().collect();
                for number in (0..2048).chain(0x4000_0000..0x4000_0800).chain([u32::MAX]) {
                    let verdict = calls.get(&number).map(|name| rules.verdict(name));
                    if matches!(verdict, Some(Verdict::Check(_))) {
                        continue;
                    }
                    let (answer, steps) = run(program.instructions(), abi.audit, number, 0);
                    assert_eq!(answer, expected(verdict), "{number} {:?}", calls.get(&number));
                    assert!(steps < 30, "{steps} steps");
                }
            }
            let unknown_abi = run(program.instructions(), 0x1234, 0, 0).0;
            assert_eq!(unknown_abi, RETURN_KILL_PROCESS);
        }
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let program = Program::standard(CapabilitySet::DOCKER).unwrap();
        let ask = |name: &str, argument: u32| {
            let abi = &profile::abis()[0];
            let number = (abi.calls)().iter().find(|(_, known)| *known == name).unwrap().0;
            run(program.instructions(), abi.audit, number, argument).0 == RETURN_ALLOW
        };
        assert!(ask("clone", 0x11) && !ask("clone", 0x1000_0000) && !ask("clone", 0x11 | 0x0002_0000));
        assert!(ask("socket", 1) && ask("socket", 10) && !ask("socket", 38) && !ask("socket", 40));
        assert!(
            ask("personality", 0) && ask("personality", 8) && ask("personality", u32::MAX) && !ask("personality", 1)
        );
        assert!(ask("chroot", 0) && !ask("mount", 0) && !ask("io_uring_setup", 0) && !ask("keyctl", 0));
    }

    #[test]
    fn only_the_named_calls_are_asked_for() {
        let program = notifying(7, [5, 6, 0, 9].into_iter());
        for number in 0..12 {
            let expected = if [0, 5, 6, 9].contains(&number) { RETURN_USER_NOTIF } else { RETURN_ALLOW };
            assert_eq!(run(&program, 7, number, 0).0, expected, "{number}");
        }
        assert_eq!(run(&program, 8, 5, 0).0, RETURN_ALLOW, "another ABI");
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let rules = profile::rules(CapabilitySet::from_bits(1 << (Capability::SysAdmin as u8)));
        assert_eq!(rules.verdict("mount"), Verdict::Allow);
        assert_eq!(rules.verdict("clone3"), Verdict::Allow);
        assert_eq!(rules.verdict("reboot"), Verdict::Refuse);
        assert_eq!(profile::rules(CapabilitySet::EMPTY).verdict("clone3"), Verdict::Absent);
    }
}
