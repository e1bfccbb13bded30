//! What a program says, read on a thread of its own. A process that it leaves behind may hold its output for ever, and is not
//! waited for.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long nothing may come of a program that has ended. What it wrote lies in the pipe by then.
const SILENCE: Duration = Duration::from_secs(10);
const PIECE: usize = 16 << 10;

/// What a program has said and says.
pub(crate) struct Said(Receiver<Vec<u8>>);

impl Said {
    /// Listens to a pipe, and keeps so many bytes at most. A program that says more does not wait for a reader that has enough.
    pub(crate) fn listen(pipe: impl Read + Send + 'static, limit: usize) -> Said {
        let (tell, said) = channel();
        std::thread::spawn(move || {
            let (mut pipe, mut left) = (pipe, limit);
            let mut piece = vec![0; PIECE];
            loop {
                match pipe.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What cannot be read is as if it were not said; how the program ended is known all the same.
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        let kept = count.min(left);
                        left -= kept;
                        // Nobody is told when nobody wants to know any more.
                        if kept > 0 && tell.send(piece.get(..kept).unwrap_or_default().to_vec()).is_err() {
                            left = 0;
                        }
                    }
                }
            }
        });
        Said(said)
    }

    /// All of it, once the program has ended.
    pub(crate) fn all(self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.0.recv_timeout(SILENCE) {
                Ok(piece) => all.extend(piece),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return all,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    fn said(script: &str, limit: usize) -> String {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let said = Said::listen(child.stdout.take().unwrap(), limit);
        child.wait().unwrap();
        String::from_utf8(said.all()).unwrap()
    }

    #[test]
    fn a_program_is_heard_to_its_end_and_no_longer() {
        assert_eq!(said("echo one; echo two", 100), "one\ntwo\n");
        assert_eq!(said("head -c 1000000 /dev/zero | tr '\\0' x", 1000).len(), 1000);
        let begun = Instant::now();
        assert_eq!(said("sleep 60 2>/dev/null & echo here", 100), "here\n");
        assert!(begun.elapsed() < Duration::from_secs(50), "what it left behind was waited for");
    }
}
