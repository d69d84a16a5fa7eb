//! ServiceCIDR (networking.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path, extend},
    given::Items,
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column},
    meta::{self, IMMUTABLE},
    syntax, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for ServiceCIDR {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("CIDRs", "string", "", 0, Prose::Field("io.k8s.api.networking.v1.ServiceCIDRSpec", "cidrs")),
            AGE,
        ],
        ..About::new("servicecidrs", "servicecidr")
    };

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(Default::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let (path, blocks) = (SPEC.child("cidrs"), blocks(self));
        match blocks.len() {
            0 => {
                errors.push(Error::required(path, "at least one CIDR required"));
                return;
            }
            1 | 2 => {}
            _ => {
                let wrong = Error::invalid(path, "", "may only hold up to 2 values");
                errors.push(wrong.showing_struct(&self.spec, "io.k8s.api.networking.v1.ServiceCIDRSpec"));
                return;
            }
        }
        for (i, block) in blocks.iter().enumerate() {
            extend(errors, path.index(i), block, syntax::canonical_cidr(block));
        }
        if let [Some((a, _)), Some((b, _))] = blocks.iter().map(|b| syntax::parse_cidr(b)).collect::<Vec<_>>()[..]
            && a.is_ipv4() == b.is_ipv4()
        {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.push(Error::invalid(path, blocks, why));
        }
    }

    /// A second family may be added; nothing else may change.
    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        let (path, new, old) = (SPEC.child("cidrs"), blocks(self), blocks(old));
        let grows = (old.len(), new.len()) == (1, 2);
        if !grows && old.len() != new.len() {
            errors.push(Error::invalid(path, new, IMMUTABLE));
            return;
        }
        for (i, (now, before)) in new.iter().zip(old).enumerate() {
            if now != before {
                errors.push(Error::invalid(path.index(i), now.as_str(), IMMUTABLE));
            }
        }
        if grows {
            self.validate_create(request, errors);
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(blocks(self).join(",")), json!(table::age(&self.metadata, now))]
    }
}

fn blocks(range: &ServiceCIDR) -> &[String] {
    range.spec.as_ref().map(|spec| spec.cidrs.items()).unwrap_or_default()
}
