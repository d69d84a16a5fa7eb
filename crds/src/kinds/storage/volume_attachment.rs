//! VolumeAttachment (storage.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentStatus, VolumeError};
use serde_json::{Value, json};

use super::class;
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::Text,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, Subresource, column},
    meta, syntax, table,
    volume::{persistent, source},
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const METADATA_SIZE_MAX: usize = 256 << 10;
const MESSAGE_LENGTH_MAX: usize = 1024;

impl Kind for VolumeAttachment {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Attacher",
                "string",
                "name",
                0,
                Prose::Field("io.k8s.api.storage.v1.VolumeAttachmentSpec", "attacher"),
            ),
            column(
                "PV",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.VolumeAttachmentSource", "persistentVolumeName"),
            ),
            column("Node", "string", "", 0, Prose::Field("io.k8s.api.storage.v1.VolumeAttachmentSpec", "nodeName")),
            column(
                "Attached",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.VolumeAttachmentStatus", "attached"),
            ),
            AGE,
        ],
        unconditional_update: false,
        delete_answer: DeleteAnswer::Object,
        checks_changes: false,
        ..About::new("volumeattachments", "volumeattachment")
    };

    fn set_defaults(&mut self) {
        if let Some(spec) = &mut self.spec.source.inline_volume_spec {
            persistent::default_source(spec);
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        source::csi_driver(&self.spec.attacher, &SPEC.child("attacher"), errors);
        let path = SPEC.child("source");
        validate_source(&self.spec.source, &path, errors);
        let node = self.spec.node_name.as_str();
        extend(errors, SPEC.child("nodeName"), node, field::dns_subdomain(node));
        if let Some(status) = &self.status {
            validate_status(status, errors);
        }
        if let Some(name) = &self.spec.source.persistent_volume_name {
            extend(errors, path.child("persistentVolumeName"), name, field::dns_subdomain(name));
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        equal::immutable_struct(&self.spec, &old.spec, "io.k8s.api.storage.v1.VolumeAttachmentSpec", SPEC, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_update(old, request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            json!(self.metadata.name),
            json!(self.spec.attacher),
            json!(self.spec.source.persistent_volume_name.text()),
            json!(self.spec.node_name),
            json!(self.status.as_ref().is_some_and(|status| status.attached)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_source(source: &VolumeAttachmentSource, path: &Path, errors: &mut Errors) {
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, source.persistent_volume_name.as_deref()) {
        (None, None) => errors.push(Error::required(*path, why)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(*path, why)),
        (None, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Error::required(path.child("persistentVolumeName"), why));
        }
        (None, Some(_)) => {}
        (Some(spec), None) => persistent::validate_inline(spec, &path.child("inlineVolumeSpec"), errors),
    }
}

fn validate_status(status: &VolumeAttachmentStatus, errors: &mut Errors) {
    if status.attachment_metadata.as_ref().is_some_and(|map| class::size(map) > METADATA_SIZE_MAX) {
        errors.push(Error::too_long(STATUS.child("attachmentMetadata"), METADATA_SIZE_MAX as i64));
    }
    for (name, error) in [("attachError", &status.attach_error), ("detachError", &status.detach_error)] {
        if let Some(error) = error {
            validate_error(error, &STATUS.child(name), errors);
        }
    }
}

fn validate_error(error: &VolumeError, path: &Path, errors: &mut Errors) {
    if error.message.text().len() > MESSAGE_LENGTH_MAX {
        // Upstream tells the limit of the metadata here.
        errors.push(Error::too_long(path.child("message"), METADATA_SIZE_MAX as i64));
    }
    if let Some(code) = error.error_code.filter(|code| *code < 0) {
        errors.push(Error::invalid(path.child("errorCode"), code, syntax::range_text(0, i32::MAX.into())));
    }
}
