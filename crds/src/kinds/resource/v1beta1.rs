//! resource.k8s.io/v1beta1: what its requests say of one device stands in `exactly` later, and what its devices say in
//! `basic` stands in the device itself.

use serde_json::{Map, Value};

/// The fields of a request that went into `exactly`.
const EXACTLY: [&str; 7] =
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

pub fn claim_to_v1(mut claim: Value) -> Value {
    each(&mut claim, "/spec/devices/requests", request_to_v1);
    claim
}

pub fn claim_from_v1(mut claim: Value) -> Value {
    each(&mut claim, "/spec/devices/requests", request_from_v1);
    claim
}

pub fn template_to_v1(mut template: Value) -> Value {
    each(&mut template, "/spec/spec/devices/requests", request_to_v1);
    template
}

pub fn template_from_v1(mut template: Value) -> Value {
    each(&mut template, "/spec/spec/devices/requests", request_from_v1);
    template
}

pub fn slice_to_v1(mut slice: Value) -> Value {
    each(&mut slice, "/spec/devices", device_to_v1);
    slice
}

pub fn slice_from_v1(mut slice: Value) -> Value {
    each(&mut slice, "/spec/devices", device_from_v1);
    slice
}

fn each(object: &mut Value, list: &str, convert: fn(&mut Map<String, Value>)) {
    let items = object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(convert);
}

fn request_to_v1(request: &mut Map<String, Value>) {
    let exactly: Map<_, _> = EXACTLY.iter().filter_map(|name| request.remove_entry(*name)).collect();
    // One that says none of these is of sub-requests.
    if exactly.values().any(|value| !matches!(value, Value::Null) && value != "" && value != 0) {
        request.insert("exactly".to_owned(), exactly.into());
    }
}

fn request_from_v1(request: &mut Map<String, Value>) {
    if let Some(Value::Object(exactly)) = request.remove("exactly") {
        request.extend(exactly);
    }
}

fn device_to_v1(device: &mut Map<String, Value>) {
    if let Some(Value::Object(basic)) = device.remove("basic") {
        device.extend(basic);
    }
}

fn device_from_v1(device: &mut Map<String, Value>) {
    let name = device.remove("name");
    let basic = std::mem::take(device);
    device.extend(name.map(|name| ("name".to_owned(), name)));
    device.insert("basic".to_owned(), basic.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_of_one_device_and_of_several() {
        let one = json!({"name": "a", "deviceClassName": "c", "allocationMode": "All", "selectors": [{"cel": {}}]});
        let several = json!({"name": "b", "deviceClassName": "", "firstAvailable": [{"name": "x"}]});
        let old = json!({"spec": {"devices": {"requests": [one, several]}}});
        let exactly = json!({"deviceClassName": "c", "allocationMode": "All", "selectors": [{"cel": {}}]});
        let several = json!({"name": "b", "firstAvailable": [{"name": "x"}]});
        let new = json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": exactly}, several.clone()]}}});
        assert_eq!(claim_to_v1(old.clone()), new);
        let mut back = claim_from_v1(new.clone());
        assert_eq!(back.pointer("/spec/devices/requests/1"), Some(&several));
        back["spec"]["devices"]["requests"][1]["deviceClassName"] = json!("");
        assert_eq!(back, old);
        assert_eq!(template_to_v1(json!({"spec": old})), json!({"spec": new}));
    }

    #[test]
    fn devices_are_basic() {
        let old = json!({"spec": {"devices": [{"name": "a", "basic": {"allNodes": true}}]}});
        let new = json!({"spec": {"devices": [{"name": "a", "allNodes": true}]}});
        assert_eq!(slice_to_v1(old.clone()), new);
        assert_eq!(slice_from_v1(new), old);
        let plain = json!({"spec": {"devices": [{"name": "a"}]}});
        assert_eq!(slice_from_v1(plain.clone())["spec"]["devices"][0]["basic"], json!({}));
        assert_eq!(slice_to_v1(slice_from_v1(plain.clone())), plain);
    }
}
