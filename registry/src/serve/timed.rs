//! A stream whose other side must go on taking bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A window of time, and the fewest bytes that have to leave in it while some wait.
const WINDOW: Duration = Duration::from_secs(30);
const FEWEST: usize = 16 << 10;

/// The stream. Reading has its own times: for heads the connection's, for bodies [`super::body::Incomer`]'s.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    timer: Pin<Box<Sleep>>,
    /// Bytes wait to leave, and so many left since the timer was set.
    waiting: Option<usize>,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S) -> Timed<S> {
        Timed { stream, timer: Box::pin(sleep(WINDOW)), waiting: None }
    }

    /// After each try to write: whether the other side has become too slow.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<usize>) -> io::Result<()> {
        match (written, &mut self.waiting) {
            (Poll::Ready(count), Some(sent)) => {
                *sent += count;
                if *sent >= FEWEST {
                    self.waiting = None;
                }
            }
            (Poll::Ready(_), None) => {}
            (Poll::Pending, waiting) => {
                if waiting.is_none() {
                    *waiting = Some(0);
                    self.timer.as_mut().reset(Instant::now() + WINDOW);
                }
                if self.timer.as_mut().poll(context).is_ready() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too few bytes"));
                }
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let count = match &written {
            Poll::Ready(Err(_)) => return written,
            Poll::Ready(Ok(count)) => Poll::Ready(*count),
            Poll::Pending => Poll::Pending,
        };
        self.judge(context, count)?;
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // All that was to leave has left.
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
