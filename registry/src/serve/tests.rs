//! Clients that are slow, on a clock that does not wait for them.
#![allow(clippy::unwrap_used)]

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Duration, Instant, sleep};

use super::*;

/// Runs with a clock that goes on as soon as everybody waits.
fn clocked<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

/// A server of an empty store, and the client's end of a connection to it.
fn connected(buffer: usize) -> (tempfile::TempDir, Arc<Server>, DuplexStream, watch::Sender<bool>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let server = Arc::new(Server {
        hosted: store.hosted(),
        store,
        read_only: false,
        users: None,
        sessions: Sessions::default(),
        packers: Packers::default(),
        events: Box::new(|_| ()),
    });
    let (near, far) = duplex(buffer);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(exchange(Arc::clone(&server), Timed::new(near), stopped));
    (directory, server, far, stop)
}

async fn rest(mut stream: DuplexStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    for begin in ["", "GET /v2/ HTTP/1.1\r\nX:", "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"] {
        clocked(async {
            let (_directory, _server, mut client, _stop) = connected(1 << 16);
            client.write_all(begin.as_bytes()).await.unwrap();
            let begun = Instant::now();
            rest(client).await;
            assert!(begun.elapsed() <= HEAD_PATIENCE + Duration::from_secs(1), "{begin}: {:?}", begun.elapsed());
        });
    }
}

#[test]
fn a_body_that_drips_is_refused() {
    clocked(async {
        let (_directory, _server, client, _stop) = connected(1 << 16);
        let (reader, mut writer) = tokio::io::split(client);
        let head = "PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
        writer.write_all(head.as_bytes()).await.unwrap();
        let begun = Instant::now();
        // Never silent for long, and never enough.
        let dripping = tokio::spawn(async move {
            while writer.write_all(b" ").await.is_ok() {
                sleep(Duration::from_secs(5)).await;
            }
        });
        let mut reader = reader;
        let mut answer = vec![0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 408");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        dripping.abort();
    });
}

#[test]
fn an_answer_that_is_hardly_read_is_cut_off() {
    clocked(async {
        let (_directory, server, mut client, _stop) = connected(4 << 10);
        let content = vec![1; 2 << 20];
        let digest = server.hosted.put_blob(&"a".parse().unwrap(), &content).unwrap();
        let ask = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(ask.as_bytes()).await.unwrap();
        let (begun, mut read) = (Instant::now(), 0);
        let mut buffer = vec![0; 1 << 10];
        loop {
            match client.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
            sleep(Duration::from_secs(5)).await;
        }
        assert!(read < 64 << 10, "{read} bytes");
        assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    });
}

#[test]
fn one_that_reads_in_time_gets_all_of_it() {
    clocked(async {
        let (_directory, server, mut client, _stop) = connected(64 << 10);
        let content = vec![7; 2 << 20];
        let digest = server.hosted.put_blob(&"a".parse().unwrap(), &content).unwrap();
        let ask = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(ask.as_bytes()).await.unwrap();
        let (mut all, mut buffer) = (Vec::new(), vec![0; 32 << 10]);
        loop {
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                count => all.extend_from_slice(buffer.get(..count).unwrap()),
            }
            sleep(Duration::from_secs(10)).await;
        }
        assert!(all.ends_with(&content));
    });
}

#[test]
fn writing_where_nobody_reads_ends() {
    clocked(async {
        let (near, _far) = duplex(1 << 10);
        let error = Timed::new(near).write_all(&[0; 1 << 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}
