//! One GET over a connection, with bounds.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{self, HeaderMap, HeaderName},
};
use hyper_util::rt::TokioIo;
use myelin_core::ports::Clock;
use tokio::time::timeout;

use super::{
    connection::{Connected, Trouble, connect},
    report::Remark,
};

/// An answer.
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// When it was asked for and when its head was there, in milliseconds.
    pub asked: (i64, i64),
}

impl Page {
    /// A header, if it is text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// How a page is asked for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// What the Host header says.
    pub host_header: &'a str,
    /// The path.
    pub path: &'a str,
    /// Largest body that is read.
    pub size: usize,
    /// How long it may take.
    pub patience: Duration,
}

impl Ask<'_> {
    /// Asks over a connection. The error says in words what happened.
    pub async fn over(self, connected: Connected, clock: &dyn Clock) -> Result<Page, String> {
        match timeout(self.patience, self.exchange(connected, clock)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("gives no answer within {} s", self.patience.as_secs())),
        }
    }

    /// Asks over a new connection.
    pub async fn at(self, at: SocketAddr, host: &str, clock: &dyn Clock) -> Result<Page, String> {
        let trouble = |trouble: Trouble| {
            let Remark { text, .. } = trouble.remark(at, host);
            format!("is not there any more: {text}")
        };
        self.over(connect(at, host, self.patience).await.map_err(trouble)?, clock).await
    }

    async fn exchange(self, connected: Connected, clock: &dyn Clock) -> Result<Page, String> {
        let broken = |error: hyper::Error| format!("does not speak HTTP as it should: {error}");
        let io = TokioIo::new(connected.stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
        let request = Request::get(self.path)
            .header(header::HOST, self.host_header)
            .header(header::USER_AGENT, "Myelin")
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("can't be asked: {error}"))?;
        let work = async {
            let before = clock.now_ms();
            let response: Response<Incoming> = sender.send_request(request).await.map_err(broken)?;
            let asked = (before, clock.now_ms());
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.size).collect().await;
            let body = body.map_err(|error| format!("sends a body that can't be read: {error}"))?;
            let body = body.to_bytes().to_vec();
            Ok(Page { status: head.status.as_u16(), headers: head.headers, body, asked })
        };
        tokio::pin!(work, connection);
        // The connection has to be driven while its answer is waited for, and may end before the answer was read.
        tokio::select! {
            answer = &mut work => answer,
            _ = &mut connection => work.await,
        }
    }
}
