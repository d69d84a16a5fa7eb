//! Asks other servers: UDP first, TCP when the answer does not fit.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::{
    ProtoError,
    op::{Message, OpCode, Query},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("no upstream server answered: {0}")]
    Io(#[from] io::Error),
    #[error("an upstream server's answer cannot be read: {0}")]
    Proto(#[from] ProtoError),
    #[error("no upstream server answered in time")]
    Slow,
    #[error("there are no upstream servers")]
    Nobody,
}

/// Asks one server after the other until one answers.
pub async fn ask(upstreams: &[SocketAddr], query: &Query, patience: Duration) -> Result<Message, ForwardError> {
    let mut failure = ForwardError::Nobody;
    for upstream in upstreams {
        match timeout(patience, ask_one(*upstream, query)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(e)) => failure = e,
            Err(_) => failure = ForwardError::Slow,
        }
    }
    Err(failure)
}

async fn ask_one(upstream: SocketAddr, query: &Query) -> Result<Message, ForwardError> {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Query;
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let (id, bytes) = (message.metadata.id, message.to_vec()?);
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        // Anything else is late or forged.
        if answer.metadata.id != id || answer.queries.first() != Some(query) {
            continue;
        }
        return if answer.metadata.truncation { ask_tcp(upstream, &bytes).await } else { Ok(answer) };
    }
}

async fn ask_tcp(upstream: SocketAddr, query: &[u8]) -> Result<Message, ForwardError> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer).map_err(ProtoError::from)?)
}
