//! CEL: an expression is parsed, checked, estimated and evaluated over a pod, within the limit of one call.
#![no_main]

use crds::cel::{Bindings, CALL_LIMIT, Env, Type, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let pod = keelson_fuzz::pod();
    let env = Env::new().bind_macro().patches().variable("self", Type::Dyn).variable("text", Type::String);
    let Ok(program) = env.compile(source) else { return };
    program.estimate(None);
    let bindings = Bindings::new().bind("self", Value::json(&pod)).bind("text", Value::text("a1 é"));
    if let Ok(value) = program.evaluate(&bindings, CALL_LIMIT).value {
        drop(value.to_json());
    }
});
