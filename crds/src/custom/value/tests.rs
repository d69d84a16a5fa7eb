use serde_json::json;

use super::*;

fn told(schema: &Value, value: &Value, past: Option<&Value>) -> Vec<String> {
    let schema = Structural::of(schema);
    let mut errors = Errors::new();
    validate(value, &schema, "", past.map(|value| Past { value, schema: &schema }), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_go_makes_of_them() {
    for (schema, value, want) in [
        (
            json!({"enum": ["a", null], "type": "string", "nullable": true}),
            json!(null),
            "<nil>: Unsupported value: null: supported values: \"a\", \"null\"",
        ),
        (
            json!({"type": "integer"}),
            json!(1e20),
            "<nil>: Invalid value: \"number\":  in body must be of type integer: \"number\"",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!(""),
            "<nil>: Invalid value: \"\":  in body must be of type date-time: \"\"",
        ),
    ] {
        assert_eq!(told(&schema, &value, None).first().map(String::as_str), Some(want), "{schema}");
    }
}

#[test]
fn words() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["must"], "properties": {
        "s": {"type": "string", "maxLength": 4, "minLength": 2}, "i": {"type": "integer", "maximum": 10},
        "n": {"type": "number", "exclusiveMaximum": true, "maximum": 1.5}, "i32": {"type": "integer", "format": "int32"},
        "ios": {"x-kubernetes-int-or-string": true}, "e": {"enum": ["a", 2]}, "dt": {"type": "string", "format": "date"},
        "bag": {"type": "object", "additionalProperties": {"type": "integer"}},
        "one": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        "all": {"allOf": [{"minimum": 3}, {"maximum": 5}]}}}}});
    for (spec, want) in [
        (json!({"s": 1}), "spec.s: Invalid value: \"integer\": spec.s in body must be of type string: \"integer\""),
        (json!({"s": "abcde"}), "spec.s: Too long: may not be more than 4 bytes"),
        (json!({"s": "a"}), "spec.s: Invalid value: \"a\": spec.s in body should be at least 2 chars long"),
        (json!({"i": 11}), "spec.i: Invalid value: 11: spec.i in body should be less than or equal to 10"),
        (json!({"n": 1.5}), "spec.n: Invalid value: 1.5: spec.n in body should be less than 1.5"),
        (
            json!({"i32": 2147483648i64}),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.i32",
        ),
        (
            json!({"ios": true}),
            "spec.ios: Invalid value: \"boolean\": spec.ios in body must be of type integer,string: \"boolean\"",
        ),
        (json!({"e": "b"}), "spec.e: Unsupported value: \"b\": supported values: \"a\", \"2\""),
        (json!({"dt": "x"}), "spec.dt: Invalid value: \"x\": spec.dt in body must be of type date: \"x\""),
        (
            json!({"bag": {"a": "x"}}),
            "spec.bag.a: Invalid value: \"string\": spec.bag.a in body must be of type integer: \"string\"",
        ),
        (
            json!({"one": {"a": 1, "b": 2}}),
            "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (json!({"s": null}), "spec.s: Invalid value: \"null\": spec.s in body must be of type string: \"null\""),
    ] {
        let mut spec = spec;
        spec["must"] = json!(1);
        assert_eq!(told(&schema, &json!({"spec": spec}), None), [want]);
    }
    assert_eq!(told(&schema, &json!({"spec": {}}), None), ["spec.must: Required value"]);
    assert_eq!(
        told(&schema, &json!({"spec": {"must": 1, "all": 7}}), None),
        [
            "spec.all: Invalid value: 7: spec.all in body should be less than or equal to 5",
            "<nil>: Invalid value: \"\": \"spec.all\" must validate all the schemas (allOf)"
        ]
    );
}

#[test]
fn what_was_invalid_may_stay() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 1}, "b": {"type": "string"},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}}}});
    let old = json!({"a": 5, "list": [{"k": "x", "v": 5}]});
    assert!(
        told(&schema, &json!({"a": 5, "b": "new", "list": [{"k": "y", "v": 0}, {"k": "x", "v": 5}]}), Some(&old))
            .is_empty()
    );
    assert_eq!(told(&schema, &json!({"a": 6}), Some(&old)).len(), 1);
    assert_eq!(told(&schema, &json!({"list": [{"k": "y", "v": 5}]}), Some(&old)).len(), 1);
}
