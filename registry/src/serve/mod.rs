//! A registry over the store: OCI distribution-spec 1.1, server side.
//!
//! `route.rs` says what a request is for, the files of that name do it, `images.rs` knows how images of the store and manifests
//! belong together. The store is worked on by blocking threads; one thread moves the bytes of all connections.

mod access;
mod blobs;
mod body;
mod images;
mod lists;
mod manifests;
mod reply;
mod route;
mod sessions;
#[cfg(test)]
mod tests;
mod timed;
mod uploads;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cache::{Digest, Hosted, Reference, Store};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};
use access::Users;
use body::Body;
use images::Packers;
use sessions::Sessions;
use timed::Timed;

/// Most connections at once; others wait to be taken.
const CONNECTIONS: usize = 256;
/// Most threads that work on the store.
const WORKERS: usize = 256;
/// How long a client may take for the head of a request, and be idle between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// Most headers of a request.
const HEADERS: usize = 64;
/// Most bytes of a request's head, and of one read.
const BUFFER: usize = 128 << 10;
/// How often it is looked whether the server shall end.
const TICK: Duration = Duration::from_millis(100);
/// How long requests under way may go on after that.
const GRACE: Duration = Duration::from_secs(10);
/// How often uploads are looked through for old ones.
const TIDY: Duration = Duration::from_secs(600);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where to listen; port 0 is any that is free.
    pub address: SocketAddr,
    /// PEM files of the certificate, with those between it and its authority, and of its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may: a file of `htpasswd -B`. Everybody without one.
    pub users: Option<PathBuf>,
    /// Nothing can be pushed or removed.
    pub read_only: bool,
}

/// What a server tells.
#[derive(Debug, Clone)]
pub enum ServeEvent {
    /// It takes requests here.
    Listening(SocketAddr),
    /// A manifest was pushed.
    Pushed {
        /// Its name, as the store has it.
        name: Reference,
        /// Its digest.
        digest: Digest,
        /// The store has an image of that name now.
        is_image: bool,
    },
    /// A tag or manifest was removed.
    Removed(Reference),
    /// Something worth a line.
    Note(String),
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) hosted: Hosted,
    pub(crate) read_only: bool,
    users: Option<Users>,
    sessions: Sessions,
    packers: Packers,
    events: Box<dyn Fn(ServeEvent) + Send + Sync>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Server {
    fn tell(&self, event: ServeEvent) {
        (self.events)(event);
    }

    fn note(&self, sentence: impl Into<String>) {
        self.tell(ServeEvent::Note(sentence.into()));
    }
}

/// Serves until `cancelled`, then lets requests under way end.
///
/// # Errors
/// When the address cannot be listened on, or a file of the options cannot be used.
pub fn serve(
    store: &Store,
    options: &ServeOptions,
    cancelled: &dyn Fn() -> bool,
    events: Box<dyn Fn(ServeEvent) + Send + Sync>,
) -> Result<()> {
    let tls = options.tls.as_ref().map(|(certificate, key)| access::tls(certificate, key)).transpose()?;
    let server = Arc::new(Server {
        store: store.clone(),
        hosted: store.hosted(),
        read_only: options.read_only,
        users: options.users.as_deref().map(Users::read).transpose()?,
        sessions: Sessions::default(),
        packers: Packers::default(),
        events,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .build()
        .map_err(|source| Error::Listen { address: options.address, source })?;
    let ended = runtime.block_on(accept(server, options.address, tls, cancelled));
    // What packs a layer cannot be stopped; the kernel takes its draft's lease away with this process.
    runtime.shutdown_background();
    ended
}

async fn accept(
    server: Arc<Server>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    server.tell(ServeEvent::Listening(listener.local_addr().map_err(failed)?));
    tokio::spawn(tidy(Arc::clone(&server)));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopped) = watch::channel(false);
    while !cancelled() {
        let Ok(Ok(place)) = timeout(TICK, Arc::clone(&places).acquire_owned()).await else { continue };
        match timeout(TICK, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                tokio::spawn(connection(Arc::clone(&server), stream, tls.clone(), stopped.clone(), place));
            }
            // Too many files are open, or the client is gone again: the next one may fare better.
            Ok(Err(_)) => tokio::time::sleep(TICK).await,
            Err(_) => {}
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if timeout(GRACE, places.acquire_many(all)).await.is_err() {
        server.note("some requests took too long to end and were cut off");
    }
    Ok(())
}

/// Uploads that nobody goes on with are forgotten.
async fn tidy(server: Arc<Server>) {
    loop {
        let server = Arc::clone(&server);
        let _ = tokio::task::spawn_blocking(move || {
            server.sessions.let_go();
            if let Err(error) = server.hosted.expire_uploads() {
                server.note(error.to_string());
            }
            for notice in server.store.take_notices() {
                server.note(notice);
            }
        })
        .await;
        tokio::time::sleep(TIDY).await;
    }
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    stopped: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => exchange(server, Timed::new(stream), stopped).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HEAD_PATIENCE, tls.accept(Timed::new(stream))).await {
                exchange(server, stream, stopped).await;
            }
        }
    }
    drop(place);
}

/// All requests of a connection. What goes wrong with it is the client's to notice.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(Arc::clone(&server), request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_headers(HEADERS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stop = pin!(stopped.changed());
    let mut told = false;
    let _ = std::future::poll_fn(|context| {
        if !told && stop.as_mut().poll(context).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> std::result::Result<Response<Body>, Infallible> {
    let handled = match access::admit(&server, request.headers()).await {
        Ok(()) => route::dispatch(Arc::clone(&server), request).await,
        Err(refused) => Err(refused),
    };
    Ok(handled.unwrap_or_else(|mut refused| {
        if let Some(detail) = refused.take_detail() {
            server.note(detail);
        }
        refused.response()
    }))
}

/// Works on the store, on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, reply::Refused> + Send + 'static,
) -> std::result::Result<T, reply::Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(reply::Refused::defect()),
    }
}
