//! Bodies of requests: JSON, YAML and protobuf are decoded, and what was read is written in every form.
#![no_main]

use apiserver::{
    codec::{Media, decode, typed},
    options::FieldValidation,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (choice, body) = keelson_fuzz::choice(input);
    let kind = keelson_fuzz::kind(choice);
    let media = match choice / 6 % 3 {
        0 => Media::Json,
        1 => Media::Yaml,
        _ => Media::Protobuf,
    };
    let Ok(decoded) = decode::object(body, media, &kind, FieldValidation::Strict) else { return };
    let mut object = decoded.object;
    typed::canonical_form(&kind, &mut object);
    let json = typed::built_in_json(&kind, &object);
    // What the server writes, it reads.
    assert!(decode::object(&json, Media::Json, &kind, FieldValidation::Ignore).is_ok(), "{object}");
    if let Ok(protobuf) = typed::to_protobuf(&object) {
        assert!(decode::object(&protobuf, Media::Protobuf, &kind, FieldValidation::Ignore).is_ok(), "{object}");
    }
});
