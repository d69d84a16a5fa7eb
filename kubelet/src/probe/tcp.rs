//! Probing by opening a connection.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::Finding;

pub async fn probe(host: &str, port: u16, patience: Duration) -> Finding {
    match connect(host, port, patience).await {
        Ok(_) => Finding::Success,
        Err(message) => Finding::Failure(message),
    }
}

/// A connection, or why there is none, in Go's words.
pub(super) async fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let address = address(host, port);
    match timeout(patience, TcpStream::connect((host, port))).await {
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", reason(&error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        _ => error.to_string(),
    }
}
