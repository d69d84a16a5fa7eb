//! Bodies: which media type a client speaks, and objects to and from it.

pub mod answer;
pub mod body;
pub mod decode;
pub mod gzip;
pub mod json;
pub mod negotiate;
pub mod sent;
pub mod typed;
pub mod yaml;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
}

impl Media {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What an object is turned into before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// As it is.
    Object,
    /// `meta.k8s.io/v1 PartialObjectMetadata`: of one object, or of those of a watch.
    PartialMetadata,
    /// `meta.k8s.io/v1 PartialObjectMetadataList`: of a list.
    PartialMetadataList,
    /// `meta.k8s.io/v1 Table`.
    Table,
}

/// How an answer is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub media: Media,
    pub shape: Shape,
    pub pretty: bool,
}

impl Form {
    pub const JSON: Self = Self { media: Media::Json, shape: Shape::Object, pretty: false };
}
