//! The few calls of containerd's own API by which content and images are stored (CRI has none for it).

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Request, Status, client::Grpc, metadata::MetadataValue, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Archive, Blob, Image, Labels, LoadError};
use crate::runtime::cri::connect;

/// The namespace in which CRI looks for images.
const NAMESPACE: &str = "k8s.io";
/// How much of a blob is sent at once, in bytes.
const PIECE: u64 = 1 << 20;
/// What is half loaded when we are killed is collected after that long.
const LEASE: SignedDuration = SignedDuration::from_hours(1);
const WRITE: i32 = 1;
const COMMIT: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct WriteContentRequest {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    r#ref: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(btree_map = "string, string", tag = "7")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Descriptor {
    #[prost(string, tag = "1")]
    media_type: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredImage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(btree_map = "string, string", tag = "2")]
    labels: Labels,
    #[prost(message, optional, tag = "3")]
    target: Option<Descriptor>,
}

/// Creates an image; also what updates one, when no mask says otherwise.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<StoredImage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateLease {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteLease {
    #[prost(string, tag = "1")]
    id: String,
}

/// Any answer: what is in it does not matter.
#[derive(Clone, PartialEq, prost::Message)]
struct Done {}

/// A containerd in which everything that is written is safe from its garbage collector until the release.
pub(super) struct Containerd {
    channel: Channel,
    lease: String,
}

impl Containerd {
    pub async fn lease(socket: &Path) -> Result<Self, LoadError> {
        let lease = format!("keelson-{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
        let this = Self { channel: connect(socket), lease };
        let expires = (Timestamp::now() + LEASE).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let labels = Labels::from([("containerd.io/gc.expire".into(), expires)]);
        let request = CreateLease { id: this.lease.clone(), labels };
        this.call("/containerd.services.leases.v1.Leases/Create", request).await?;
        Ok(this)
    }

    pub async fn release(self) -> Result<(), LoadError> {
        let request = DeleteLease { id: self.lease.clone() };
        Ok(self.call("/containerd.services.leases.v1.Leases/Delete", request).await?)
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let lease = MetadataValue::try_from(&self.lease).map_err(|e| Status::internal(e.to_string()))?;
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        request.metadata_mut().insert("containerd-lease", lease);
        Ok(request)
    }

    async fn call<T: prost::Message + 'static>(&self, path: &'static str, message: T) -> Result<(), Status> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(path);
        client.unary(self.request(message)?, path, ProstCodec::<T, Done>::default()).await.map(drop)
    }

    /// Stores a blob, piece by piece, unless it is there already.
    pub async fn write(&self, archive: &mut Archive, blob: &Blob, labels: Labels) -> Result<(), LoadError> {
        let (pieces, requests) = tokio::sync::mpsc::channel(2);
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|e| LoadError::Runtime(e.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(requests))?;
        let send = async {
            let total = i64::try_from(blob.size).unwrap_or(i64::MAX);
            let piece = |action, offset: u64, data| WriteContentRequest {
                action,
                r#ref: format!("{}-{}", self.lease, blob.digest),
                total,
                expected: blob.digest.clone(),
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                data,
                labels: if action == COMMIT { labels.clone() } else { Labels::new() },
            };
            let mut offset = 0;
            loop {
                let data = archive.read(blob, offset, PIECE)?;
                let (action, length) = if data.is_empty() { (COMMIT, 0) } else { (WRITE, data.len() as u64) };
                // Nobody listens any more once the blob turns out to be there.
                if pieces.send(piece(action, offset, data)).await.is_err() || action == COMMIT {
                    break;
                }
                offset += length;
            }
            drop(pieces);
            Ok::<_, LoadError>(())
        };
        let receive = async {
            let answers = client.streaming(request, path, ProstCodec::<WriteContentRequest, Done>::default()).await;
            let mut answers = match answers {
                Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                answers => answers?.into_inner(),
            };
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                    Err(status) => return Err(LoadError::from(status)),
                }
            }
        };
        let (sent, received) = futures::join!(send, receive);
        received.and(sent)
    }

    /// Gives an image a name, or another image the name that it had.
    pub async fn name(&self, name: &str, image: &Image) -> Result<(), LoadError> {
        let target = Descriptor {
            media_type: image.target.media_type.clone(),
            digest: image.target.digest.clone(),
            size: i64::try_from(image.target.size).unwrap_or(i64::MAX),
        };
        let labels = Labels::from([("io.cri-containerd.image".into(), "managed".into())]);
        let image = StoredImage { name: name.into(), labels, target: Some(target) };
        let request = ImageRequest { image: Some(image) };
        match self.call("/containerd.services.images.v1.Images/Create", request.clone()).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                Ok(self.call("/containerd.services.images.v1.Images/Update", request).await?)
            }
            done => Ok(done?),
        }
    }
}
