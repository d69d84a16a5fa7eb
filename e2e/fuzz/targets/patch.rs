//! Patches of all types and apply, to a pod or to a document of the input.
#![no_main]

use apiserver::{
    apply::{self, Manager, reset::Reset},
    codec::typed,
    patch,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let (choice, rest) = keelson_fuzz::choice(input);
    let (first, second) = keelson_fuzz::parts(rest);
    let Ok(change) = serde_json::from_slice::<Value>(first) else { return };
    let document = serde_json::from_slice(second).unwrap_or_else(|_| keelson_fuzz::pod());
    let Some((schema, ty)) = typed::type_of(&keelson_fuzz::kind(0)) else { return };
    match choice % 4 {
        0 => drop(patch::json(document, &change)),
        1 => drop(patch::merge(document, &change)),
        2 => drop(patch::strategic(schema, ty, document, &change)),
        _ => {
            let reset = Reset::fields(&["status"]);
            let manager = |name, force| Manager {
                name,
                api_version: "v1",
                kind: "Pod",
                subresource: "",
                force,
                now: Timestamp::UNIX_EPOCH,
                reset: &reset,
                versions: None,
            };
            // Another one applies the same: nobody's fields may be lost on the way.
            let Ok(applied) = apply::apply(schema, ty, Some(&document), &change, &manager("one", true)) else { return };
            drop(apply::apply(schema, ty, Some(&applied), &change, &manager("two", false)));
            let mut updated = document.clone();
            apply::track(schema, ty, Some(&applied), &mut updated, &manager("three", false));
        }
    }
});
