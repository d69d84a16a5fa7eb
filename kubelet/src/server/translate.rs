//! A client that speaks a channel protocol, and a runtime that speaks SPDY: each is told what the other says.

use std::{convert::Infallible, future, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tracing::trace;

use super::{
    channel::{self, Protocol, Said, Wanted},
    spdy::{self, Frame, Framer},
};

/// So many frames wait for a runtime that takes none.
const FRAMES: usize = 4;
/// A client has so long to receive what it was told.
const GOODBYE: Duration = Duration::from_secs(60);

/// A command's streams: their numbers, their names, and the channels that they become.
struct Streams(Vec<(u32, &'static str, u8)>);

impl Streams {
    /// In the order in which they are opened.
    fn of(wanted: Wanted) -> Self {
        let all = [
            (true, "error", channel::ERROR),
            (wanted.stdin, "stdin", channel::STDIN),
            (wanted.stdout, "stdout", channel::STDOUT),
            (wanted.stderr, "stderr", channel::STDERR),
            (wanted.tty, "resize", channel::RESIZE),
        ];
        let open = all.into_iter().filter(|(open, ..)| *open);
        Self(open.zip((1..).step_by(2)).map(|((_, name, channel), id)| (id, name, channel)).collect())
    }

    fn id(&self, channel: u8) -> Option<u32> {
        self.0.iter().find(|(_, _, c)| *c == channel).map(|(id, ..)| *id)
    }

    fn channel(&self, stream: u32) -> Option<u8> {
        self.0.iter().find(|(id, ..)| *id == stream).map(|(_, _, c)| *c)
    }
}

/// Relays until the command has ended, or the client has gone.
pub async fn relay<C, S>(
    protocol: Protocol,
    wanted: Wanted,
    socket: WebSocketStream<C>,
    server: S,
) -> Result<(), String>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite,
{
    let streams = Streams::of(wanted);
    let (mut client, mut messages) = socket.split();
    let (mut from, mut to) = tokio::io::split(server);
    let mut framer = Framer::default();
    for (id, name, _) in &streams.0 {
        to.write_all(&framer.open(*id, &[("streamtype", name)])).await.map_err(|e| e.to_string())?;
    }
    // Three ways at once: the runtime takes no input while the command reads none, and its output must not wait for that.
    let (frames, queue) = mpsc::channel(FRAMES);
    let status = tokio::select! {
        status = output(protocol, &streams, &mut from, &mut client, &frames) => status?,
        () = input(protocol, &streams, &mut messages, &frames) => return Ok(()),
        never = feed(queue, &mut to) => match never {},
    };
    // How it ended is told last, when all output is out.
    if let Some(end) = protocol.end(&status).filter(|_| !status.is_empty()) {
        client.send(end).await.map_err(|e| e.to_string())?;
    }
    goodbye(&mut client, messages).await
}

/// Ends a WebSocket whose client is to receive all that it was told.
pub async fn goodbye<S>(client: &mut S, messages: impl Stream<Item = Result<Message, Error>>) -> Result<(), String>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    // Without a code clients take the end for an accident.
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    client.send(Message::Close(Some(normal))).await.map_err(|e| e.to_string())?;
    // A connection that is closed with something unread is reset, and what the client has not received is lost.
    let rest = messages.take_while(|message| future::ready(message.is_ok())).count();
    timeout(GOODBYE, rest).await.map(drop).map_err(|_| "the client does not say goodbye".into())
}

/// What the client says becomes frames, until it says nothing more.
async fn input(
    protocol: Protocol,
    streams: &Streams,
    messages: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    frames: &Sender<Bytes>,
) {
    while let Some(Ok(message)) = messages.next().await {
        let frame = match protocol.read(&message) {
            Said::Data(channel, data) if !data.is_empty() => streams.id(channel).map(|id| spdy::data(id, &data, false)),
            Said::Closed(channel) => streams.id(channel).map(|id| spdy::data(id, &[], true)),
            Said::Data(..) | Said::Nothing => None,
        };
        if let Some(frame) = frame
            && frames.send(frame).await.is_err()
        {
            trace!("input for a command that takes no more");
        }
    }
}

/// Writes to the runtime. That it takes no more is no end: what it has said before is still to be read.
async fn feed(mut queue: Receiver<Bytes>, to: &mut (impl AsyncWrite + Unpin)) -> Infallible {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = to.write_all(&frame).await {
            trace!(%error, "the runtime takes no more");
            break;
        }
    }
    drop(queue);
    future::pending().await
}

/// What the runtime says becomes messages, until it says nothing more; then, how the command ended.
async fn output(
    protocol: Protocol,
    streams: &Streams,
    from: &mut (impl AsyncRead + Unpin),
    client: &mut (impl Sink<Message, Error = Error> + Unpin),
    frames: &Sender<Bytes>,
) -> Result<BytesMut, String> {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut status = BytesMut::new();
    loop {
        let read = match from.read_buf(&mut buffer).await {
            Ok(read) => read,
            // It need not say goodbye when it has told all.
            Err(_) if !status.is_empty() => 0,
            Err(error) => return Err(error.to_string()),
        };
        if read == 0 {
            return Ok(status);
        }
        while let Some(frame) = spdy::take(&mut buffer).map_err(|e| e.to_string())? {
            match frame {
                Frame::Data { stream, data, .. } => match streams.channel(stream) {
                    Some(channel::ERROR) => status.extend_from_slice(&data),
                    Some(channel) if !data.is_empty() => {
                        client.send(protocol.write(channel, &data)).await.map_err(|e| e.to_string())?;
                    }
                    _ => {}
                },
                // One that takes no input at the moment would not read the answer either.
                Frame::Ping(frame) => {
                    if frames.try_send(frame).is_err() {
                        trace!("a ping without an answer");
                    }
                }
                Frame::Reset { .. } | Frame::GoAway | Frame::Other => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[test]
    fn streams_in_order() {
        let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
        let names: Vec<_> = Streams::of(wanted).0.into_iter().map(|(id, name, _)| format!("{id} {name}")).collect();
        assert_eq!(names, ["1 error", "3 stdin", "5 stdout", "7 resize"]);
    }

    /// A relay between a client of the newest protocol and a runtime, whose streams 1, 3 and 5 are those of a command.
    async fn relayed(buffer: usize) -> (Protocol, WebSocketStream<DuplexStream>, DuplexStream, Relayed) {
        let (near, far) = duplex(buffer);
        let (ours, runtime) = duplex(buffer);
        let protocol = Protocol::choose(&["v5.channel.k8s.io".into()]).unwrap();
        let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        (protocol, client, runtime, tokio::spawn(relay(protocol, wanted, socket, ours)))
    }

    type Relayed = tokio::task::JoinHandle<Result<(), String>>;

    async fn heard(client: &mut WebSocketStream<DuplexStream>, protocol: Protocol) -> Vec<(u8, usize)> {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Said::Data(channel, data) = protocol.read(&message) {
                heard.push((channel, data.len()));
            }
        }
        heard
    }

    #[tokio::test]
    async fn output_and_status_reach_the_client() {
        let (protocol, mut client, runtime, relayed) = relayed(4096).await;
        client.send(protocol.write(channel::STDIN, b"in")).await.unwrap();
        let (mut from, mut to) = tokio::io::split(runtime);
        let mut buffer = BytesMut::new();
        let received = loop {
            from.read_buf(&mut buffer).await.unwrap();
            let mut found = None;
            while let Some(frame) = spdy::take(&mut buffer).unwrap() {
                if let Frame::Data { stream, data, .. } = frame {
                    found = Some((stream, data));
                }
            }
            if let Some(found) = found {
                break found;
            }
        };
        assert_eq!(received, (3, Bytes::from_static(b"in")));
        // The status comes first and is told last.
        to.write_all(&spdy::data(1, br#"{"status":"Success"}"#, true)).await.unwrap();
        to.write_all(&spdy::data(5, b"out", false)).await.unwrap();
        drop((from, to));
        assert_eq!(heard(&mut client, protocol).await, [(channel::STDOUT, 3), (channel::ERROR, 20)]);
        relayed.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn output_does_not_wait_for_input_that_nobody_takes() {
        let (protocol, client, mut runtime, relayed) = relayed(1024).await;
        let (mut client, mut messages) = client.split();
        let says =
            tokio::spawn(async move { while client.send(protocol.write(channel::STDIN, &[0; 512])).await.is_ok() {} });
        // The runtime reads nothing at all.
        let runs = tokio::spawn(async move {
            for _ in 0..100 {
                runtime.write_all(&spdy::data(5, &[0; 1000], false)).await.unwrap();
            }
            runtime.write_all(&spdy::data(1, br#"{"status":"Success"}"#, true)).await.unwrap();
        });
        let mut told = 0;
        while let Some(Ok(message)) = messages.next().await {
            told += matches!(protocol.read(&message), Said::Data(channel::STDOUT, data) if data.len() == 1000) as usize;
        }
        assert_eq!(told, 100);
        runs.await.unwrap();
        drop(messages);
        says.await.unwrap();
        relayed.await.unwrap().unwrap();
    }
}
