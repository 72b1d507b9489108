//! Accept loop: bounds on connections, heads and silence, and an orderly end.
//!
//! `axum::serve` sets no timer, without which a connection that sends its head byte by byte stays for ever.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use crate::guard::HEAD_BYTES;

/// Headers of a request at most.
const HEADERS: usize = 100;
/// Time between two attempts to accept, where the system refuses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Time for a request's head, and for the next one on a connection that is kept.
    pub head: Duration,
    /// Time that answers have to end once the server is to stop.
    pub grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: 1024, head: Duration::from_secs(15), grace: Duration::from_secs(5) }
    }
}

/// Serves `router` on every one of `listeners` until `stop` turns true, and then until answers have ended or the grace is over.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, limits: ConnectionLimits, stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(accept(listener, router.clone(), limits, Arc::clone(&room), stop.clone()));
    }
    while loops.join_next().await.is_some() {}
}

async fn accept(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    room: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = stopped(&mut stop) => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), limits, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // No file descriptors are left, or the peer is gone already.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Answers end by themselves within the grace; what is left then is cut off.
    let _ = timeout(limits.grace + Duration::from_secs(2), ended).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
) {
    // Small frames are sent at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        // What is wrong with a connection concerns its peer.
        _ = &mut serving => return,
        () = stopped(&mut stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// Ends once the server is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone: nobody will say stop any more, nor serve.
    let _ = stop.wait_for(|stop| *stop).await;
}
