//! Ends what a test started and what does not end by itself: a test that waits for ever tells nothing, and holds up all others.
//!
//! It kills, and the test that waits says what it had heard until then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Longer than any command of any test takes on a slow machine.
const LONGEST: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_secs(5);

/// A process, which has its number from a moment on.
type Identity = (u32, u64);

/// What is known of a process.
struct Process {
    parent: u32,
    began: u64,
    ended: bool,
}

/// Begins to look at the children of this process; once is enough.
pub(crate) fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).expect("a thread");
    });
}

fn watch() {
    let mut known: BTreeMap<Identity, Instant> = BTreeMap::new();
    loop {
        std::thread::sleep(LOOK);
        let all = processes();
        let own = std::process::id();
        let children = all.iter().filter(|(_, process)| process.parent == own);
        let children: Vec<Identity> = children.map(|(number, process)| (*number, process.began)).collect();
        known.retain(|identity, _| children.contains(identity));
        for identity in children {
            if known.entry(identity).or_insert_with(Instant::now).elapsed() > LONGEST {
                end(identity.0, &all);
                known.insert(identity, Instant::now());
            }
        }
    }
}

/// Kills a child with all that it started. One that has ended, and is waited for all the same, has left its output to others.
fn end(child: u32, all: &BTreeMap<u32, Process>) {
    let ended = all.get(&child).is_some_and(|process| process.ended);
    let named = if ended { holders_of_output(all) } else { with_descendants(child, all) };
    let why = if ended { "has ended, and others hold its output" } else { "goes on" };
    let mut text = format!("watchdog: after {} seconds process {child} {why}; killed:\n", LONGEST.as_secs());
    named.iter().for_each(|number| describe(*number, &mut text));
    // Past the test harness, which shows nothing of tests that wait.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    let numbers = named.iter().map(ToString::to_string);
    let _ = Command::new("kill").arg("-KILL").args(numbers).status();
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|number| Some((number, look(number)?)))
        .collect()
}

fn look(number: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // Fields of proc_pid_stat(5), counted behind the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ended = *fields.first()? == "Z";
    Some(Process { parent: fields.get(1)?.parse().ok()?, began: fields.get(19)?.parse().ok()?, ended })
}

fn with_descendants(number: u32, all: &BTreeMap<u32, Process>) -> Vec<u32> {
    let mut found = vec![number];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, process)| process.parent == parent).map(|(child, _)| *child));
        at += 1;
    }
    found
}

/// Who has a pipe that this process made, and does not stand below it.
fn holders_of_output(all: &BTreeMap<u32, Process>) -> Vec<u32> {
    let own = std::process::id();
    let family = with_descendants(own, all);
    let mut own_pipes = pipes(own);
    let inherited = all.get(&own).map(|process| pipes(process.parent)).unwrap_or_default();
    own_pipes.retain(|pipe| !inherited.contains(pipe));
    let strangers = all.keys().filter(|number| !family.contains(number));
    strangers.filter(|number| pipes(**number).iter().any(|pipe| own_pipes.contains(pipe))).copied().collect()
}

fn pipes(number: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()));
    links.filter(|link| link.starts_with("pipe:")).collect()
}

/// What it was called with, and where each of its threads waits.
fn describe(number: u32, text: &mut String) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{number}/{name}")).unwrap_or_default();
    let _ = writeln!(text, "  {number}: {}", read("cmdline").replace('\0', " "));
    for thread in fs::read_dir(format!("/proc/{number}/task")).into_iter().flatten().flatten() {
        let of = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default().trim().to_owned();
        let stack = of("stack");
        let calls: Vec<&str> = stack.lines().filter_map(|line| line.split_whitespace().nth(1)).take(6).collect();
        let _ = writeln!(text, "    {} in {} ({})", of("comm"), of("wchan"), calls.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_does_not_end_is_ended_with_all_that_it_started_or_left_behind() {
        let mut shell = Command::new("sh");
        let mut child = shell.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut number = [0; 64];
        let length = out.read(&mut number).unwrap();
        let number: u32 = std::str::from_utf8(&number[..length]).unwrap().trim().parse().unwrap();
        assert!(with_descendants(child.id(), &processes()).contains(&number));
        end(child.id(), &processes());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // One that is dead holds no pipe any more.
        assert_eq!(out.read(&mut [0]).unwrap(), 0);

        let mut shell = Command::new("sh");
        let mut child = shell.args(["-c", "sleep 600 2>/dev/null &"]).stdout(Stdio::piped()).spawn().unwrap();
        crate::until("the shell has ended", || look(child.id()).is_some_and(|process| process.ended));
        end(child.id(), &processes());
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success() && said.is_empty());
    }
}
