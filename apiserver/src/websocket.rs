//! Streams over a WebSocket, each piece a message: for browsers, which cannot read them otherwise.

use futures::{SinkExt, Stream, StreamExt};
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::{
    call::BoxError,
    connect::header::{is_upgrade, words},
    error::{ApiError, Result},
};

/// The version of the protocol that RFC 6455 has.
const VERSION: &str = "13";

/// The wish of a request to go on over a WebSocket.
pub struct Wish<'a> {
    headers: &'a HeaderMap,
    upgrade: Option<OnUpgrade>,
}

impl<'a> Wish<'a> {
    /// None if the request wants an answer of the usual kind.
    pub fn of(headers: &'a HeaderMap, extensions: &mut Extensions) -> Option<Self> {
        let is_asked = words(headers, header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        (is_asked && is_upgrade(headers)).then(|| Self { headers, upgrade: extensions.remove() })
    }

    /// What clients offer to speak.
    pub fn protocols(&self) -> Vec<&'a str> {
        words(self.headers, header::SEC_WEBSOCKET_PROTOCOL).filter(|protocol| !protocol.is_empty()).collect()
    }

    /// Browsers say whose page asks; others may leave it out only where that does not matter.
    pub fn has_origin(&self) -> bool {
        let origin = self.headers.get(header::ORIGIN).and_then(|origin| Uri::try_from(origin.as_bytes()).ok());
        origin.is_some_and(|origin| origin.scheme().is_some() || origin.authority().is_none())
    }

    /// Goes over to a WebSocket that speaks `protocol`, and sends these messages until they or the client end it.
    pub fn switch(
        self,
        protocol: Option<&str>,
        messages: impl Stream<Item = std::result::Result<Message, BoxError>> + Send + 'static,
    ) -> Result<Response<()>> {
        let key = self.headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| ApiError::bad_request("mismatch challenge/response"))?;
        if self.headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(ApiError::bad_request("missing or bad WebSocket Version"));
        }
        let upgrade = self.upgrade.ok_or_else(|| ApiError::unknown("request connection cannot be hijacked"))?;
        let mut switched = Response::new(());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switched.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accepted = derive_accept_key(key.as_bytes());
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accepted).map_err(ApiError::internal)?);
        if let Some(protocol) = protocol {
            let protocol = HeaderValue::from_str(protocol).map_err(ApiError::internal)?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        tokio::spawn(async move {
            if let Err(error) = send(upgrade, messages).await {
                tracing::debug!(%error, "a stream over a WebSocket ended");
            }
        });
        Ok(switched)
    }
}

async fn send(
    upgrade: OnUpgrade,
    messages: impl Stream<Item = std::result::Result<Message, BoxError>>,
) -> std::result::Result<(), BoxError> {
    let upgraded = TokioIo::new(upgrade.await?);
    let (mut to, mut from) = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await.split();
    // Nothing that a client may say is of interest, except that it has gone; pings are answered while it is listened to.
    let gone = async {
        while let Some(Ok(message)) = from.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    let sent = async {
        tokio::pin!(messages);
        while let Some(message) = messages.next().await {
            to.send(message?).await?;
        }
        Ok::<_, BoxError>(to.close().await?)
    };
    tokio::select! {
        () = gone => Ok(()),
        sent = sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use hyper::server::conn::http1;
    use hyper_util::service::TowerToHyperService;
    use serde_json::{Value, json};
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest, handshake::client::Response as Shaken};

    use super::*;
    use crate::pipeline::tests::Client;

    const WATCH: &str = "wss://here/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0";

    /// A watch over a connection of its own.
    async fn watch(
        client: &Client,
        headers: &[(&'static str, &'static str)],
    ) -> std::result::Result<(WebSocketStream<DuplexStream>, Shaken), Error> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(client.service());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
        let mut request = WATCH.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        tokio_tungstenite::client_async(request, near).await
    }

    async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Message {
        socket.next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn each_event_of_a_watch_is_a_message() {
        let (_apiserver, client) = Client::new().await;
        let maps = "/api/v1/namespaces/default/configmaps";
        for name in ["a", "b"] {
            client.send("POST", maps, json!({"metadata": {"name": name}})).await;
        }
        let page = ("origin", "https://page");
        let (mut socket, _) = watch(&client, &[page]).await.unwrap();
        for name in ["a", "b", "c"] {
            if name == "c" {
                client.send("POST", maps, json!({"metadata": {"name": name}})).await;
            }
            let Message::Text(event) = next(&mut socket).await else { panic!("JSON is text") };
            let event: Value = serde_json::from_str(&event).unwrap();
            assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
        }
        socket.close(None).await.unwrap();
        assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_)))));

        let protobuf = ("accept", "application/vnd.kubernetes.protobuf");
        let (mut socket, shaken) = watch(&client, &[page, protobuf, ("sec-websocket-protocol", "any")]).await.unwrap();
        assert_eq!(shaken.headers()["sec-websocket-protocol"], "any");
        let Message::Binary(event) = next(&mut socket).await else { panic!("protobuf is binary") };
        // The first field of an event: its type.
        assert_eq!(&event[..7], b"\x0a\x05ADDED");
    }

    #[tokio::test]
    async fn what_is_no_wish_of_a_page_is_refused() {
        let (_apiserver, client) = Client::new().await;
        let page = ("origin", "https://page");
        let refused: [(&[_], _); 4] = [
            (&[], StatusCode::FORBIDDEN),
            (&[("origin", "null")], StatusCode::FORBIDDEN),
            (&[page, ("sec-websocket-protocol", "one, other")], StatusCode::BAD_REQUEST),
            (&[page, ("sec-websocket-version", "8")], StatusCode::BAD_REQUEST),
        ];
        for (headers, code) in refused {
            let Err(Error::Http(answer)) = watch(&client, headers).await else { panic!("{headers:?}") };
            assert_eq!(answer.status(), code, "{headers:?}");
        }
    }
}
