//! `top` with options: the machine's `ps` finds out, and what is not of the container is left out.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::Engine;
use crate::error::{Error, Result};

/// Most that a `ps` says.
const OUTPUT_LIMIT: u64 = 16 << 20;

impl Engine {
    /// The lines of `ps` with these options that tell of a container's processes, the heading first.
    ///
    /// # Errors
    /// When the container does not run, there is no such program, or its options leave the column PID out.
    pub fn top_with_ps(&self, name: &str, options: &[String]) -> Result<Vec<String>> {
        let pids: Vec<u32> = self.top(name)?.iter().map(|process| process.pid).collect();
        let missing = || Error::Usage("options of ps need the program ps (package procps) on PATH".to_owned());
        let program = self.programs.find("ps").ok_or_else(missing)?;
        let failed = |source: std::io::Error| Error::Usage(format!("cannot run ps: {source}"));
        let mut child = Command::new(program)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // It says little when it fails, so the two are read one after the other.
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        if let Some(pipe) = child.stdout.take() {
            pipe.take(OUTPUT_LIMIT).read_to_end(&mut output).map_err(failed)?;
        }
        if let Some(pipe) = child.stderr.take() {
            pipe.take(OUTPUT_LIMIT).read_to_end(&mut errors).map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        let wrong = |why: &str| Error::Usage(format!("ps {}: {why}", options.join(" ")));
        if !status.success() {
            let said = String::from_utf8_lossy(&errors);
            let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
            return Err(wrong(first.trim()));
        }
        let lines = of_processes(&String::from_utf8_lossy(&output), &pids);
        lines.ok_or_else(|| wrong("its columns must have PID among them"))
    }
}

/// The heading, and the lines whose column PID has one of these numbers.
fn of_processes(output: &str, pids: &[u32]) -> Option<Vec<String>> {
    let mut lines = output.lines();
    let heading = lines.next()?;
    let column = heading.split_whitespace().position(|word| word == "PID")?;
    let of_container = lines.filter(|line| {
        let number = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        number.is_some_and(|number: u32| pids.contains(&number))
    });
    Some(std::iter::once(heading).chain(of_container).map(|line| line.trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_column() {
        let output = "USER       PID %CPU COMMAND\nroot         1  0.0 /sbin/init 7\nroot         7  0.0 sleep 1  \n";
        let lines = of_processes(output, &[7]).map(|lines| lines.join("|"));
        assert_eq!(lines.as_deref(), Some("USER       PID %CPU COMMAND|root         7  0.0 sleep 1"));
        assert_eq!(of_processes("COMMAND\nsleep\n", &[7]), None);
        assert_eq!(of_processes("", &[7]), None);
    }
}
