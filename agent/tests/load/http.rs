//! HTTP client of an application: one connection that is reused, or one stream.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any response takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// HTTP client with one connection, opened on demand.
pub struct HttpClient {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    pub fn new(address: &str) -> HttpClient {
        HttpClient {
            address: address.to_owned(),
            sender: None,
        }
    }

    /// Sends a request; returns the status and the JSON of the response. After an error the next call opens a new
    /// connection.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> io::Result<(u16, Value)> {
        let whole = async {
            let response = self.send(method, path, &[], body).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let done = timeout(CALL_TIMEOUT, whole).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if done.is_err() {
            self.sender = None;
        }
        done
    }

    /// Opens a stream on a connection of its own.
    pub async fn stream(
        address: &str,
        path: &str,
        last: Option<&str>,
    ) -> io::Result<Response<Incoming>> {
        let mut client = HttpClient::new(address);
        let last = last.map(|last| ("last-event-id", last));
        let opened = client.send(Method::GET, path, last.as_slice(), &Value::Null);
        timeout(CALL_TIMEOUT, opened)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> io::Result<Response<Incoming>> {
        let sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let sender = self.sender.insert(sender);
        sender.ready().await.map_err(io::Error::other)?;
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let begun = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = begun.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
