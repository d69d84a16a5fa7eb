//! DeviceTaintRule (resource.k8s.io/v1alpha3).

use jiff::Timestamp;
use k8s_openapi::api::resource::{
    v1,
    v1alpha3::{DeviceTaint, DeviceTaintRule},
};
use serde_json::{Value, json};

use super::{device, name};
use crate::{
    condition, equal,
    field::{Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Generation, Kind, NAME, Prose, Request, Subresource, column},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const TAINT: &str = "io.k8s.api.resource.v1.DeviceTaint";
const CONDITIONS_MAX: usize = 8;

impl Kind for DeviceTaintRule {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Key", "string", "", 0, Prose::Field(TAINT, "key")),
            column("Value", "string", "", 0, Prose::Field(TAINT, "value")),
            column("Effect", "string", "", 0, Prose::Field(TAINT, "effect")),
            column("TimeAdded", "string", "", 0, Prose::Field(TAINT, "timeAdded")),
            AGE,
        ],
        generation: Generation::Spec,
        delete_answer: DeleteAnswer::Object,
        ..About::new("devicetaintrules", "devicetaintrule")
    };

    fn prepare_create(&mut self, request: &Request) {
        self.status = None;
        self.spec.taint.time_added.get_or_insert_with(|| meta::whole_seconds(request.now));
    }

    /// The time is that of the effect: another effect has a new one, unless the client has given one.
    fn prepare_update(&mut self, old: &Self, request: &Request) {
        self.status.clone_from(&old.status);
        let (taint, was) = (&mut self.spec.taint, &old.spec.taint);
        if taint.time_added.is_none() || (taint.effect != was.effect && taint.time_added == was.time_added) {
            taint.time_added = Some(meta::whole_seconds(request.now));
        }
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(selector) = &self.spec.device_selector {
            let path = SPEC.child("deviceSelector");
            for (given, field, check) in [
                (&selector.driver, "driver", name::driver as fn(&str, &Path, &mut Errors)),
                (&selector.pool, "pool", name::pool),
                (&selector.device, "device", name::label),
            ] {
                if let Some(given) = given {
                    check(given, &path.child(field), errors);
                }
            }
        }
        device::validate_taint(&general(&self.spec.taint), &SPEC.child("taint"), errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        // An effect that was there already is not looked at again.
        let mut seen = self.clone();
        if self.spec.taint.effect == old.spec.taint.effect {
            "NoSchedule".clone_into(&mut seen.spec.taint.effect);
        }
        seen.validate_create(request, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let of = |rule: &Self| rule.status.as_ref().and_then(|status| status.conditions.clone());
        if equal::same(&of(self), &of(old)) {
            return;
        }
        let (conditions, path) = (of(self), STATUS.child("conditions"));
        condition::validate(conditions.items(), &path, errors);
        if conditions.items().len() > CONDITIONS_MAX {
            errors.push(Error::too_many(path, conditions.items().len() as i64, CONDITIONS_MAX as i64));
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let taint = &self.spec.taint;
        let added = taint.time_added.as_ref().map(|added| table::since(added.0, now)).unwrap_or_default();
        vec![
            json!(self.metadata.name),
            json!(taint.key),
            json!(taint.value.text()),
            json!(taint.effect),
            json!(added),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn general(taint: &DeviceTaint) -> v1::DeviceTaint {
    v1::DeviceTaint {
        effect: taint.effect.clone(),
        key: taint.key.clone(),
        time_added: taint.time_added.clone(),
        value: taint.value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    #[test]
    fn another_effect_has_another_time() {
        let user = User::default();
        let at = |seconds| Request {
            user: &user,
            now: Timestamp::from_second(seconds).unwrap(),
            subresource: "",
            sent: &Value::Null,
        };
        let mut old = DeviceTaintRule::default();
        (old.spec.taint.key, old.spec.taint.effect) = ("a".to_owned(), "NoSchedule".to_owned());
        old.prepare_create(&at(1));
        let mut same = old.clone();
        same.prepare_update(&old, &at(2));
        assert_eq!(same.spec.taint.time_added, old.spec.taint.time_added);
        let mut other = old.clone();
        "NoExecute".clone_into(&mut other.spec.taint.effect);
        other.prepare_update(&old, &at(3));
        assert_eq!(other.spec.taint.time_added.unwrap().0.as_second(), 3);
    }
}
