//! Tables of expressions with the values, costs and words that cel-go gives them.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;

fn schema() -> Json {
    json!({"type": "object", "properties": {
        "a": {"type": "integer"},
        "b": {"type": "string", "maxLength": 10},
        "s": {"type": "string"},
        "l": {"type": "array", "items": {"type": "integer"}},
        "ls": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 7}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ml": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
            {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
        "o": {"type": "object", "properties": {
            "x": {"type": "integer"}, "a-b": {"type": "boolean"}, "namespace": {"type": "string"}}},
        "ios": {"x-kubernetes-int-or-string": true},
        "t": {"type": "string", "format": "date-time"},
        "d": {"type": "string", "format": "duration"},
        "by": {"type": "string", "format": "byte"},
        "n": {"type": "number"},
        "e": {"type": "string", "enum": ["aa", "bbbb"]}
    }})
}

fn object() -> Json {
    json!({"a": 3, "b": "hey", "s": "héllo", "l": [3, 1, 2], "ls": ["x", "y"], "set": ["p", "q"],
        "ml": [{"k": "1", "v": 1}, {"k": "2", "v": 2}], "m": {"k": "v", "z": "w"},
        "o": {"x": 1, "a-b": true, "namespace": "ns"}, "ios": "5", "t": "2020-01-02T03:04:05Z", "d": "1h",
        "by": "aGV5", "n": 1.5, "e": "aa"})
}

fn env() -> (Env, Arc<Decl>) {
    let decl = Arc::new(schema::declared(&schema(), "selfType", false).unwrap());
    (Env::new().bind_macro().declared("self", &decl).variable("object", Type::Dyn), decl)
}

fn dynamic() -> Json {
    json!({"i": 1, "s": "str", "l": [1, "x", 2.5], "m": {"a": 1, "b": {"c": [1, 2, 3]}}, "n": null, "b": true})
}

/// The value as text, or the words of the error, and the cost.
fn run(source: &str) -> (String, u64) {
    let (env, decl) = env();
    let (typed, plain) = (object(), dynamic());
    let bindings =
        Bindings::new().bind("self", Value::typed(&typed, &decl).unwrap()).bind("object", Value::json(&plain));
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(issues) => return (issues.to_string(), 0),
    };
    let evaluation = program.evaluate(&bindings, CALL_LIMIT);
    let shown = match evaluation.value {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    };
    (shown, evaluation.cost)
}

#[test]
fn values_and_costs() {
    for (source, want, cost) in [
        ("1 + 2 * 3", "7", 2),
        ("1 / 0", "division by zero", 1),
        ("9223372036854775807 + 1", "integer overflow", 1),
        ("1u - 2u", "unsigned integer overflow", 1),
        ("--1", "1", 0),
        ("dyn(1) == 1.0", "true", 1),
        ("dyn(1.0) in [1, 2, 3]", "true", 0),
        ("self.l.all(x, x > 0)", "true", 18),
        ("self.l.exists_one(x, x > 2)", "true", 12),
        ("self.l.map(x, x > 1, x * 2)", "[6, 4]", 37),
        ("self.l.transformMap(i, x, i > 0, x * 2)", "{1: 2, 2: 4}", 19),
        ("self.m.exists(k, v, v == 'w')", "true", 15),
        ("has(object.m.zz)", "false", 2),
        ("object.zz.y", "no such key: zz", 2),
        ("object.m.b.c[9]", "index out of bounds: 9", 5),
        ("object.i + object.s", "no such overload", 5),
        ("object.?zz.y.z", "optional.none()", 1),
        ("object.?m.b.c[?0].orValue(5)", "1", 5),
        ("cel.bind(x, 1 / 0, true)", "true", 0),
        ("self.set == ['q', 'p']", "true", 3),
        ("self.ml == self.ml", "true", 5),
        ("self.o.a__dash__b", "true", 3),
        ("self.o.namespace", "\"ns\"", 3),
        ("type(self.ios) == string", "true", 4),
        ("self.t.getHours('+02:30')", "5", 3),
        ("string(self.t - duration('1h'))", "\"2020-01-02T02:04:05Z\"", 4),
        ("string(1000000.0)", "\"1e+06\"", 0),
        ("self.s.substring(9)", "index out of range: 9", 3),
        ("'%s %d %.2f'.format([['a'], 1, 1234.5])", "\"[\\\"a\\\"] 1 1,234.50\"", 1),
        ("self.ml.sortBy(x, -x.v).map(x, x.k)", "[\"2\", \"1\"]", 83),
        ("1 / 0 > 1 || true", "true", 2),
        ("[0, 1].exists(x, 1 / x == 1)", "true", 15),
        ("[0, 1].all(x, 1 / x == 1)", "division by zero", 13),
        ("lists.range(1000).all(x, lists.range(1000).all(y, x * y >= 0))", OVER, 1000001),
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true", 3),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true", 6),
        ("semver('v1.2', true).minor()", "2", 2),
        ("format.dns1123Label().validate('a').hasValue()", "false", 10),
        ("url('https://example.com:80/a').getPort()", "\"80\"", 4),
        ("self.l.slice(2, 9)", "cannot slice(2, 9), list is length 3", 14),
    ] {
        assert_eq!(run(source), (want.to_owned(), cost), "{source}");
    }
}

const OVER: &str = "operation cancelled: actual cost limit exceeded";

#[test]
fn issues_as_cel_go_words_them() {
    for (source, want) in [
        ("foo.a > 1", "1:1: undeclared reference to 'foo' (in container '')\n | foo.a > 1\n | ^"),
        ("self.zz == 1", "1:5: undefined field 'zz'\n | self.zz == 1\n | ....^"),
        (
            "self.a == 'x'",
            "1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.a == 'x'\n | .......^",
        ),
        ("self.a.nope", "1:7: type 'int' does not support field selection\n | self.a.nope\n | ......^"),
        ("[1, 'a']", "1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("duration('1parsec')", "1:10: invalid duration argument\n | duration('1parsec')\n | .........^"),
        ("self.l.map(1, x)", "1:12: argument is not an identifier\n | self.l.map(1, x)\n | ...........^"),
        ("if.a", "1:1: reserved identifier: if\n | if.a\n | ^"),
        ("a b c", "1:3: Syntax error: mismatched input 'b' expecting <EOF>\n | a b c\n | ..^"),
        ("(self.a", "1:8: Syntax error: missing ')' at '<EOF>'\n | (self.a\n | .......^"),
        (
            "self.a.all(x, true)",
            "1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n \
             | self.a.all(x, true)\n | ....^",
        ),
        (
            "self.a >",
            "1:9: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', \
             'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.a >\n | ........^",
        ),
    ] {
        assert_eq!(run(source).0, format!("ERROR: <input>:{want}"), "{source}");
    }
}

#[test]
fn estimates() {
    let (env, decl) = env();
    for (source, min, max) in [
        ("self.a == 1", 2, 2),
        ("self.b == self.s", 5, 8),
        ("self.b + self.b == 'x'", 5, 13),
        ("self.ls.all(x, x.size() > 0)", 3, 33),
        ("self.l.all(x, x > 0)", 3, 7864318),
        ("self.s.contains(self.b)", 4, 1258296),
        ("has(self.o.x)", 2, 2),
    ] {
        let estimate = env.compile(source).unwrap().estimate(Some(&decl));
        assert_eq!((estimate.min, estimate.max), (min, max), "{source}");
    }
}

#[test]
fn nesting_is_bounded() {
    let env = Env::new();
    let deep = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    for (open, close) in [("(", ")"), ("[", "]"), ("-(", ")")] {
        let issues = env.compile(&deep(open, close, 300)).unwrap_err().to_string();
        assert_eq!(issues, "ERROR: <input>:-1:0: expression recursion limit exceeded: 250", "{open}");
        assert!(env.compile(&deep(open, close, 100)).is_ok(), "{open}");
    }
    let long = vec!["true"; 2_000].join(" && ");
    let evaluation = env.compile(&long).unwrap().evaluate(&Bindings::new(), CALL_LIMIT);
    assert_eq!(evaluation.value, Ok(Value::Bool(true)));
    assert!(env.compile(&"x".repeat(SOURCE_LIMIT + 1)).unwrap_err().to_string().contains("exceeds limit"));
}

#[test]
fn variables_are_evaluated_once_and_when_used() {
    let compile = |env: &Env, source: &str| Arc::new(env.compile(source).unwrap());
    let env = admission::env(false, false);
    let first = compile(&env, "object.i + 1");
    let failing = compile(&env, "object.zz");
    let known = [("first".to_owned(), first.output().clone()), ("failing".to_owned(), Type::Dyn)];
    let env = admission::with_variables(env, &known);
    let second = compile(&env, "variables.first * 2");
    let env = admission::with_variables(env, &[known.as_slice(), &[("second".to_owned(), Type::Int)]].concat());
    let object = dynamic();
    let bindings = Bindings::new().bind("object", Value::json(&object));
    let programs = vec![("first".into(), first), ("failing".into(), failing), ("second".into(), second)];
    let variables = Variables::new(programs, bindings.clone());
    let bindings = bindings.bind_lookup("variables", variables.clone());
    let value = |source: &str| env.compile(source).unwrap().evaluate(&bindings, CALL_LIMIT).value;
    assert_eq!(variables.cost(), 0);
    assert_eq!(value("variables.second + variables.first"), Ok(Value::Int(6)));
    let cost = variables.cost();
    assert!(cost > 0);
    assert_eq!(value("variables.second"), Ok(Value::Int(4)));
    assert_eq!(variables.cost(), cost);
    let words = value("variables.failing == 1").unwrap_err().to_string();
    assert_eq!(words, "composited variable \"failing\" fails to evaluate: no such key: zz");
}

#[test]
fn authorizer_is_asked() {
    struct Pods;
    impl Authorize for Pods {
        fn authorize(&self, question: &Question) -> Decision {
            let allowed = matches!(&question.target, Target::Resource(r) if r.resource == "pods");
            Decision { allowed, reason: question.verb.clone(), error: None }
        }
    }
    let authorizer = Authorizer::new(Arc::new(Pods));
    let request = authorizer.clone().request_resource(Resource { resource: "pods".to_owned(), ..Resource::default() });
    let bindings = Bindings::new()
        .bind("authorizer", Value::Authorizer(authorizer))
        .bind("authorizer.requestResource", Value::ResourceCheck(Arc::new(request)));
    let env = admission::env(false, true);
    for (source, want) in [
        ("authorizer.group('').resource('pods').namespace('a').check('get').allowed()", Value::Bool(true)),
        ("authorizer.path('/x').check('get').allowed()", Value::Bool(false)),
        ("authorizer.requestResource.check('list').reason()", Value::text("list")),
    ] {
        let evaluation = env.compile(source).unwrap().evaluate(&bindings, CALL_LIMIT);
        assert_eq!(evaluation.value, Ok(want), "{source}");
        assert!(evaluation.cost >= 350_000, "{source}");
    }
}

#[test]
fn patches_and_devices() {
    let env = admission::env(false, false).patches();
    let program = env
        .compile("[JSONPatch{op: 'add', path: '/m/' + jsonpatch.escapeKey('a/b~'), value: Object.spec{n: [1]}}]")
        .unwrap();
    assert_eq!(program.output().to_string(), "list(JSONPatch)");
    let value = program.evaluate(&Bindings::new(), CALL_LIMIT).value.unwrap();
    let patch = json!([{"op": "add", "path": "/m/a~1b~0", "value": {"n": [1]}}]);
    assert_eq!(value.to_json().unwrap(), patch);

    let attributes = [("d".to_owned(), [("model".to_owned(), Value::text("a100"))].into())];
    let device = device::value("d", false, attributes.into(), device::ByDomain::new());
    let bindings = Bindings::new().bind("device", device);
    for (source, want) in [
        ("device.driver == 'd' && device.attributes['d'].model == 'a100'", true),
        ("has(device.attributes['other'].model)", false),
        ("cel.bind(a, device.attributes['d'], a.model.startsWith('a'))", true),
    ] {
        let program = device::env().compile(source).unwrap();
        assert_eq!(program.evaluate(&bindings, CALL_LIMIT).value, Ok(Value::Bool(want)), "{source}");
        assert!(program.estimate(Some(&device::decl())).max < 100, "{source}");
    }
}
