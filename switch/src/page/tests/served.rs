//! A server of the page, whose reports a test makes, and which falls silent or goes when it is told
//! to.

use std::convert::Infallible;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tower::ServiceExt;

use crate::base::lock::lock;
use crate::page::routes::routes;
use crate::page::status::Status;

/// What is done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Answers,
    /// They are read, and nothing follows.
    Silent,
    /// They are refused.
    Refuses,
    /// What they get is no report.
    Babbles,
}

/// The server.
#[derive(Debug)]
pub(super) struct Served {
    address: SocketAddr,
    report: Arc<Mutex<Status>>,
    mood: Arc<Mutex<Mood>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Served {
    pub(super) fn new(report: Status) -> Self {
        let mut served = Self {
            address: ([127, 0, 0, 1], 0).into(),
            report: Arc::new(Mutex::new(report)),
            mood: Arc::new(Mutex::new(Mood::Answers)),
            running: None,
        };
        served.start();
        served
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what is reported from now on.
    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.report));
    }

    pub(super) fn set(&self, mood: Mood) {
        *lock(&self.mood) = mood;
    }

    /// Serves again, where it did before.
    pub(super) fn start(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let report = self.report.clone();
        let router = routes(move || lock(&report).clone());
        let (stop, stopped) = oneshot::channel();
        let mood = self.mood.clone();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .unwrap();
            let connections = LocalSet::new();
            connections.block_on(&runtime, async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = serve(&listener, &router, &mood) => {}
                }
            });
        });
        self.running = Some((stop, serving));
    }

    /// Goes: closes the listener and all connections.
    pub(super) fn stop(&mut self) {
        if let Some((stop, serving)) = self.running.take() {
            // It fails if the thread has ended, which the next line says.
            let _ = stop.send(());
            serving.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: &tokio::net::TcpListener, router: &Router, mood: &Arc<Mutex<Mood>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (router, mood) = (router.clone(), mood.clone());
        let answer = move |request| answer(router.clone(), *lock(&mood), request);
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        // The browser ends connections as it likes.
        spawn_local(async { drop(connection.await) });
    }
}

async fn answer(
    router: Router,
    mood: Mood,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    match mood {
        Mood::Answers => router.oneshot(request.map(Body::new)).await,
        Mood::Silent => pending().await,
        Mood::Refuses => {
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok(refused)
        }
        Mood::Babbles => Ok(Response::new(Body::from("{\"vms\": 7}"))),
    }
}
