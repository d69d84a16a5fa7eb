//! Samples of what go-yaml and upstream's conversion to JSON do.

use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    parse(text.as_bytes()).unwrap().value
}

#[test]
fn scalars() {
    for (text, want) in [
        ("", json!(null)),
        ("~", json!(null)),
        ("y", json!(true)),
        ("off", json!(false)),
        ("\"y\"", json!("y")),
        ("yes!", json!("yes!")),
        ("010", json!(8)),
        ("08", json!(8)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("1_000", json!(1000)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("1e3", json!(1000)),
        ("1.50", json!(1.5)),
        (".5", json!(0.5)),
        ("1.", json!(1)),
        ("18446744073709551615", json!(u64::MAX)),
        ("2026-01-02", json!("2026-01-02")),
        ("2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
        ("1:30", json!("1:30")),
        ("!!str 1", json!("1")),
        ("!!float 1", json!(1)),
        ("!!binary YQ==", json!("a")),
        ("1.2.3", json!("1.2.3")),
        ("-", json!([null])),
        ("a\n b", json!("a b")),
        ("|\n a\n b\n", json!("a\nb\n")),
        ("{a: 1, b: [x, 'y']}", json!({"a": 1, "b": ["x", "y"]})),
        ("{\"a\": \"\\u00e9\"}", json!({"a": "é"})),
    ] {
        assert_eq!(value(text), want, "{text}");
    }
}

#[test]
fn keys_become_text() {
    assert_eq!(value("n: 1\n2: a\n1.5: b\ntrue: c"), json!({"false": 1, "2": "a", "1.5": "b", "true": "c"}));
    assert!(parse(b"? {a: b}\n: c").is_err());
    assert!(parse(b"~: a").is_err());
}

#[test]
fn merges_and_aliases() {
    let text = "base: &b {x: 1, y: 2}\none:\n  <<: *b\n  x: 3\nmany:\n  <<: [{x: 5}, *b]\nsame: *b\n";
    let want = json!({
        "base": {"x": 1, "true": 2}, "one": {"x": 3, "true": 2}, "many": {"x": 5, "true": 2}, "same": {"x": 1, "true": 2},
    });
    assert_eq!(value(text), want);
    assert_eq!(
        parse(b"a:\n  <<: 1").unwrap_err().to_string(),
        "yaml: map merge requires map or sequence of maps as the value"
    );
}

#[test]
fn duplicates() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: v\n  k: w\n";
    let parsed = parse(text.as_bytes()).unwrap();
    assert_eq!(parsed.value["data"]["k"], "w");
    assert_eq!(parsed.duplicates, ["line 6: key \"k\" already set in map"]);
}

#[test]
fn first_document() {
    assert_eq!(value("---\na: 1\n---\nb: 2\n"), json!({"a": 1}));
    assert_eq!(value("# nothing\n"), json!(null));
}

#[test]
fn refusals() {
    for (text, want) in [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("a:\n  b: c: d", "yaml: line 2: mapping values are not allowed in this context"),
        ("a: *x", "yaml: unknown anchor 'x' referenced"),
        ("{\"a\":\"\"b\"}", "yaml: did not find expected ',' or '}'"),
        ("a: \"b\n", "yaml: line 2: found unexpected end of stream"),
        ("!!int x", "yaml: cannot decode !!str `x` as a !!int"),
        ("a: .inf", "json: unsupported value: +Inf"),
    ] {
        let problem = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(
            problem == want || (want.contains("anchor") && problem.contains("unknown anchor")),
            "{text}: {problem}"
        );
    }
}

#[test]
fn limits() {
    let deep = "[".repeat(DEPTH_MAX + 2);
    assert!(parse(deep.as_bytes()).unwrap_err().to_string().contains("exceeded max depth"));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let item = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{item}]\n"));
    }
    assert_eq!(parse(bomb.as_bytes()).unwrap_err().to_string(), "yaml: document contains excessive aliasing");
    assert!(parse(b"&a [*a]").is_err());
}

#[test]
fn written_as_go_writes_it() {
    let value = json!({
        "b": ["x", ["y", {"k": "v", "l": []}], {}],
        "a10": "1", "a9": "2026-01-02T03:04:05Z", "y": "No",
        "text": "two\nlines\n", "cut": "a\nb", "odd": " x", "hash": "a #b", "colon": "a: b", "quote": "it's",
        "tab": "a\tb", "empty": "", "null": null, "n": 1.5, "time": "12:30", "plain": "http://x/y#z, a?",
        "long": "word ".repeat(20).trim_end(),
    });
    let want = "a9: \"2026-01-02T03:04:05Z\"\na10: \"1\"\nb:\n- x\n- - \"y\"\n  - k: v\n    l: []\n- {}\ncolon: 'a: b'\n\
        cut: |-\n  a\n  b\nempty: \"\"\nhash: 'a #b'\nlong: word word word word word word word word word word word word word word word word\n  \
        word word word word\n\"n\": 1.5\n\"null\": null\nodd: ' x'\nplain: http://x/y#z, a?\nquote: it's\ntab: \"a\\tb\"\n\
        text: |\n  two\n  lines\ntime: \"12:30\"\n\"y\": \"No\"\n";
    assert_eq!(write(&value), want);
    assert_eq!(parse(want.as_bytes()).unwrap().value, value);
}

#[test]
fn what_is_written_is_read_again() {
    let texts = [
        "", "~", "y", "1_0", "<<", "- a", "? b", "a\n b", "\na\n\n", "#", "&a", "'", "\"", "\u{1}", "a\u{85}b", "x ",
        "é", "0x1f",
    ];
    for text in texts {
        for value in [json!(text), json!([text, [text]]), json!({ text: {text: [text]} })] {
            assert_eq!(parse(write(&value).as_bytes()).unwrap().value, value, "{text:?}:\n{}", write(&value));
        }
    }
}
