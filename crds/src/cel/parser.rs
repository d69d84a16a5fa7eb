//! Reads an expression into its tree, with cel-go's grammar, limits and words.

use std::sync::Arc;

use super::{
    SOURCE_LIMIT,
    ast::{Element, Entry, Expr, Field, Id, Kind, Literal, Parsed},
    escape::RESERVED,
    issue::Issues,
    lexer::{Lexeme, Token, lex},
    macros,
};

/// So deep may rules nest.
const DEPTH_MAX: usize = 250;

/// What may begin an operand, as antlr lists it.
const OPERAND: &str = "'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER";

/// A syntax error was reported; nothing after it is read.
pub(super) struct Stop;
type Read<T> = Result<T, Stop>;

pub(crate) fn parse(source: &str, bind_macro: bool) -> Result<Parsed, Issues> {
    let mut issues = Issues::new(source);
    let size = source.chars().count();
    if size > SOURCE_LIMIT {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {SOURCE_LIMIT}");
        issues.report(None, message);
        return Err(issues);
    }
    let lexemes = lex(source, &mut issues);
    let mut parser = Parser { lexemes, next: 0, places: Vec::new(), issues, bind_macro, depth: 0, tree: 0, end: size };
    let root = parser.start();
    match root {
        Ok(root) if parser.issues.is_empty() => Ok(Parsed { source: source.into(), root, places: parser.places }),
        _ => Err(parser.issues),
    }
}

pub(super) struct Parser<'s> {
    lexemes: Vec<Lexeme<'s>>,
    next: usize,
    pub(super) places: Vec<usize>,
    pub(super) issues: Issues,
    pub(super) bind_macro: bool,
    /// Of the rule for whole expressions.
    depth: usize,
    /// Of the tree below the node that is read.
    tree: usize,
    end: usize,
}

impl<'s> Parser<'s> {
    pub(super) fn id(&mut self, at: usize) -> Id {
        self.places.push(at);
        self.places.len() - 1
    }

    pub(super) fn node(&mut self, at: usize, kind: Kind) -> Expr {
        Expr { id: self.id(at), kind }
    }

    pub(super) fn place(&self, expr: &Expr) -> usize {
        self.places.get(expr.id).copied().unwrap_or(0)
    }

    fn peek(&self) -> Lexeme<'s> {
        let end = Lexeme { token: Token::End, text: "<EOF>", at: self.end };
        self.lexemes.get(self.next).copied().unwrap_or(end)
    }

    fn take(&mut self) -> Lexeme<'s> {
        let lexeme = self.peek();
        self.next += 1;
        lexeme
    }

    fn sees(&self, sign: &str) -> bool {
        matches!(self.peek().token, Token::Sign(s) if s == sign)
    }

    fn accept(&mut self, sign: &str) -> Option<Lexeme<'s>> {
        self.sees(sign).then(|| self.take())
    }

    /// A mistake after which reading goes on.
    pub(super) fn wrong(&mut self, at: usize, message: impl Into<String>) -> Expr {
        self.issues.report(Some(at), message);
        self.node(at, Kind::Literal(Literal::Null))
    }

    fn stop<T>(&mut self, message: String) -> Read<T> {
        let at = self.peek().at;
        self.issues.report(Some(at), format!("Syntax error: {message}"));
        Err(Stop)
    }

    fn mismatch<T>(&mut self, expecting: &str) -> Read<T> {
        let text = shown(self.peek().text);
        self.stop(format!("mismatched input '{text}' expecting {expecting}"))
    }

    fn expect(&mut self, sign: &'static str, others: &str) -> Read<Lexeme<'s>> {
        if let Some(lexeme) = self.accept(sign) {
            return Ok(lexeme);
        }
        let text = shown(self.peek().text);
        let follows =
            matches!(self.lexemes.get(self.next + 1), Some(Lexeme { token: Token::Sign(s), .. }) if *s == sign);
        let expecting = if others.is_empty() { format!("'{sign}'") } else { others.to_owned() };
        let one = !expecting.starts_with('{');
        if follows {
            self.stop(format!("extraneous input '{text}' expecting {expecting}"))
        } else if one && self.may_follow(sign) {
            self.stop(format!("missing '{sign}' at '{text}'"))
        } else {
            self.mismatch(&expecting)
        }
    }

    /// Whether what is read next could stand behind this sign.
    fn may_follow(&self, sign: &str) -> bool {
        match (sign, self.peek().token) {
            (":", _) => self.begins_operand(),
            (_, Token::End) => true,
            (_, Token::Sign(next)) => !["(", "{", "!"].contains(&next),
            _ => false,
        }
    }

    /// What no operand begins with; left out, an operand might follow.
    fn no_operand<T>(&mut self, expecting: &str) -> Read<T> {
        self.next += 1;
        let follows = self.begins_operand();
        self.next -= 1;
        if follows && self.peek().token != Token::End {
            let text = shown(self.peek().text);
            return self.stop(format!("extraneous input '{text}' expecting {expecting}"));
        }
        self.mismatch(expecting)
    }

    fn too_deep<T>(&mut self) -> Read<T> {
        self.issues.report(None, format!("expression recursion limit exceeded: {DEPTH_MAX}"));
        Err(Stop)
    }

    /// Counts a level of the tree, which bounds every later walk over it.
    fn deeper(&mut self) -> Read<()> {
        self.tree += 1;
        if self.tree > DEPTH_MAX { self.too_deep() } else { Ok(()) }
    }

    fn start(&mut self) -> Read<Expr> {
        let root = self.expr()?;
        let last = self.peek();
        match last.token {
            Token::End => Ok(root),
            _ => {
                let text = shown(last.text);
                let words = if self.next + 2 >= self.lexemes.len() { "extraneous" } else { "mismatched" };
                self.stop(format!("{words} input '{text}' expecting <EOF>"))
            }
        }
    }

    fn expr(&mut self) -> Read<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.too_deep();
        }
        let tree = self.tree;
        let condition = self.joined("||", "_||_")?;
        let expr = match self.accept("?") {
            None => condition,
            Some(question) => {
                self.deeper()?;
                let id = self.id(question.at);
                let then = self.joined("||", "_||_")?;
                self.expect(":", "':'")?;
                let otherwise = self.expr()?;
                Expr { id, kind: global("_?_:_", vec![condition, then, otherwise]) }
            }
        };
        self.tree = tree;
        self.depth -= 1;
        Ok(expr)
    }

    /// Terms joined by `||` or `&&`, as a balanced tree.
    fn joined(&mut self, sign: &'static str, function: &str) -> Read<Expr> {
        let (mut terms, mut operators) = (vec![self.joined_term(sign)?], Vec::new());
        while let Some(operator) = self.accept(sign) {
            terms.push(self.joined_term(sign)?);
            operators.push(self.id(operator.at));
        }
        let mut terms = terms.into_iter();
        Ok(balanced(&mut terms, &operators, function).unwrap_or_else(|| {
            let at = self.end;
            self.node(at, Kind::Literal(Literal::Null))
        }))
    }

    fn joined_term(&mut self, sign: &str) -> Read<Expr> {
        if sign == "||" { self.joined("&&", "_&&_") } else { self.binary(0) }
    }

    fn operator(&self) -> Option<(usize, &'static str)> {
        Some(match self.peek().token {
            Token::In => (0, "@in"),
            Token::Sign("<") => (0, "_<_"),
            Token::Sign("<=") => (0, "_<=_"),
            Token::Sign(">=") => (0, "_>=_"),
            Token::Sign(">") => (0, "_>_"),
            Token::Sign("==") => (0, "_==_"),
            Token::Sign("!=") => (0, "_!=_"),
            Token::Sign("+") => (1, "_+_"),
            Token::Sign("-") => (1, "_-_"),
            Token::Sign("*") => (2, "_*_"),
            Token::Sign("/") => (2, "_/_"),
            Token::Sign("%") => (2, "_%_"),
            _ => return None,
        })
    }

    fn binary(&mut self, least: usize) -> Read<Expr> {
        let tree = self.tree;
        let mut left = self.unary()?;
        while let Some((precedence, function)) = self.operator().filter(|(precedence, _)| *precedence >= least) {
            self.deeper()?;
            let at = self.take().at;
            let id = self.id(at);
            let right = self.binary(precedence + 1)?;
            left = Expr { id, kind: global(function, vec![left, right]) };
        }
        self.tree = tree;
        Ok(left)
    }

    fn unary(&mut self) -> Read<Expr> {
        let first = self.peek();
        let follows = self.lexemes.get(self.next + 1).map(|lexeme| lexeme.token);
        let (sign, function) = match first.token {
            Token::Sign("!") => ("!", "!_"),
            Token::Sign("-") if !matches!(follows, Some(Token::Int | Token::Double)) => ("-", "-_"),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.accept(sign).is_some() {
            count += 1;
        }
        if count % 2 == 0 {
            return self.member();
        }
        let id = self.id(first.at);
        let operand = self.member()?;
        Ok(Expr { id, kind: global(function, vec![operand]) })
    }

    fn member(&mut self) -> Read<Expr> {
        let tree = self.tree;
        let mut operand = self.primary()?;
        loop {
            if let Some(dot) = self.accept(".") {
                self.deeper()?;
                let optional = self.accept("?").is_some();
                operand = self.field(operand, dot.at, optional)?;
            } else if let Some(bracket) = self.accept("[") {
                self.deeper()?;
                let optional = self.accept("?").is_some();
                if !optional && !self.begins_operand() {
                    return self.no_operand(&format!("{{{}}}", OPERAND.replace("'!'", "'!', '?'")));
                }
                let id = self.id(bracket.at);
                let index = self.expr()?;
                self.expect("]", "']'")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                operand = Expr { id, kind: global(function, vec![operand, index]) };
            } else {
                self.tree = tree;
                return Ok(operand);
            }
        }
    }

    fn field(&mut self, operand: Expr, dot: usize, optional: bool) -> Read<Expr> {
        let name = self.peek();
        match name.token {
            Token::Ident => {}
            Token::Escaped => {
                self.take();
                return Ok(self.wrong(name.at, "unsupported syntax: '`'"));
            }
            _ if optional => return self.mismatch("{IDENTIFIER, ESC_IDENTIFIER}"),
            Token::True | Token::False | Token::Null => {
                let text = name.text;
                return self.stop(format!("mismatched input '{text}' expecting IDENTIFIER"));
            }
            _ => {
                let text = shown(name.text);
                let before = if name.token == Token::End { "" } else { "." };
                return match name.token {
                    Token::End => self.stop("no viable alternative at input '.'".to_owned()),
                    _ => self.stop(format!("no viable alternative at input '{before}{text}'")),
                };
            }
        }
        self.take();
        if optional {
            let id = self.id(dot);
            let field = self.node(name.at, Kind::Literal(Literal::String(name.text.into())));
            return Ok(Expr { id, kind: global("_?._", vec![operand, field]) });
        }
        if let Some(open) = self.accept("(") {
            let id = self.id(open.at);
            let arguments = self.arguments()?;
            return Ok(self.call(id, name.text, Some(operand), arguments));
        }
        Ok(self.node(dot, Kind::Select { operand: Box::new(operand), field: name.text.into(), test: false }))
    }

    /// A call, or what a macro makes of it.
    fn call(&mut self, id: Id, function: &str, target: Option<Expr>, arguments: Vec<Expr>) -> Expr {
        let at = self.places.get(id).copied().unwrap_or(0);
        let call = macros::MacroCall { at, function, target, arguments };
        match macros::expand(self, call) {
            Ok(expanded) => expanded,
            Err(call) => {
                let target = call.target.map(Box::new);
                Expr { id, kind: Kind::Call { function: function.into(), target, arguments: call.arguments } }
            }
        }
    }

    /// Up to the closing parenthesis.
    fn arguments(&mut self) -> Read<Vec<Expr>> {
        let mut arguments = Vec::new();
        if self.accept(")").is_some() {
            return Ok(arguments);
        }
        self.deeper()?;
        loop {
            if arguments.is_empty() && !self.begins_operand() {
                let closed = matches!(self.lexemes.get(self.next + 1), Some(Lexeme { token: Token::Sign(")"), .. }));
                let expecting = format!("{{{OPERAND_OR_CLOSE}}}");
                if closed {
                    let text = shown(self.peek().text);
                    return self.stop(format!("extraneous input '{text}' expecting {expecting}"));
                }
                return self.no_operand(&expecting);
            }
            arguments.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect(")", "')'")?;
                self.tree -= 1;
                return Ok(arguments);
            }
        }
    }

    fn begins_operand(&self) -> bool {
        match self.peek().token {
            Token::Sign(sign) => ["[", "{", "(", ".", "-", "!"].contains(&sign),
            Token::In | Token::Escaped | Token::End => false,
            _ => true,
        }
    }

    fn primary(&mut self) -> Read<Expr> {
        let first = self.peek();
        match first.token {
            Token::Sign("(") => {
                self.take();
                let inner = self.expr()?;
                self.expect(")", "')'")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            Token::Sign(".") => {
                self.take();
                if self.peek().token != Token::Ident {
                    return self.mismatch("IDENTIFIER");
                }
                self.name(true)
            }
            Token::Ident => self.name(false),
            Token::Sign("-") => {
                self.take();
                let number = self.take();
                if !matches!(number.token, Token::Int | Token::Double) {
                    self.next -= 1;
                    let text = if number.token == Token::End { String::new() } else { shown(number.text) };
                    return self.stop(format!("no viable alternative at input '-{text}'"));
                }
                Ok(self.number(number, "-", first.at))
            }
            Token::Int | Token::Uint | Token::Double => {
                self.take();
                Ok(self.number(first, "", first.at))
            }
            Token::True | Token::False => {
                self.take();
                Ok(self.node(first.at, Kind::Literal(Literal::Bool(first.token == Token::True))))
            }
            Token::Null => {
                self.take();
                Ok(self.node(first.at, Kind::Literal(Literal::Null)))
            }
            Token::String | Token::Bytes => {
                self.take();
                Ok(self.text(first))
            }
            _ => self.no_operand(&format!("{{{OPERAND}}}")),
        }
    }

    fn name(&mut self, dotted: bool) -> Read<Expr> {
        let first = self.take();
        if let Some(ids) = self.struct_name() {
            let mut name = if dotted { format!(".{}", first.text) } else { first.text.to_owned() };
            for id in ids {
                name.push('.');
                name.push_str(id);
            }
            return self.object(&name);
        }
        let start = if dotted { self.lexemes.get(self.next - 2).map_or(first.at, |dot| dot.at) } else { first.at };
        let name = if dotted { format!(".{}", first.text) } else { first.text.to_owned() };
        let reserved = RESERVED.contains(&first.text);
        match self.accept("(") {
            Some(open) => {
                let arguments_id = self.id(open.at);
                let arguments = self.arguments()?;
                if reserved {
                    return Ok(self.wrong(start, format!("reserved identifier: {}", first.text)));
                }
                Ok(self.call(arguments_id, &name, None, arguments))
            }
            None if reserved => Ok(self.wrong(start, format!("reserved identifier: {}", first.text))),
            None => Ok(self.node(first.at, Kind::Ident(name.into()))),
        }
    }

    /// Whether `.b.c{` follows, which makes the name that of a type; consumes it up to the brace then.
    fn struct_name(&mut self) -> Option<Vec<&'s str>> {
        let (mut at, mut ids) = (self.next, Vec::new());
        loop {
            match self.lexemes.get(at)?.token {
                Token::Sign("{") => break,
                Token::Sign(".") => {}
                _ => return None,
            }
            let id = self.lexemes.get(at + 1).filter(|lexeme| lexeme.token == Token::Ident)?;
            ids.push(id.text);
            at += 2;
        }
        self.next = at;
        Some(ids)
    }

    fn object(&mut self, name: &str) -> Read<Expr> {
        let open = self.take();
        let id = self.id(open.at);
        self.deeper()?;
        let mut fields = Vec::new();
        while !self.sees("}") {
            let optional = self.accept("?").is_some();
            let field = self.peek();
            match field.token {
                Token::Ident => {}
                Token::Escaped => {
                    self.wrong(field.at, "unsupported syntax: '`'");
                }
                _ => return self.mismatch("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}"),
            }
            self.take();
            let colon = self.expect(":", "':'")?;
            let id = self.id(colon.at);
            let value = self.expr()?;
            fields.push(Field { id, name: field.text.into(), value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}", "{'}', ','}")?;
        self.tree -= 1;
        Ok(Expr { id, kind: Kind::Struct(name.into(), fields) })
    }

    /// The grammar allows a comma between brackets that hold nothing else.
    fn lone_comma(&mut self, close: &str) {
        let closed =
            matches!(self.lexemes.get(self.next + 1), Some(Lexeme { token: Token::Sign(s), .. }) if *s == close);
        if self.sees(",") && closed {
            self.take();
        }
    }

    fn list(&mut self) -> Read<Expr> {
        let open = self.take();
        let id = self.id(open.at);
        self.deeper()?;
        let mut elements = Vec::new();
        self.lone_comma("]");
        while !self.sees("]") {
            if !elements.is_empty() && self.sees(",") {
                self.expect("]", "']'")?;
            }
            let optional = self.accept("?").is_some();
            let value = self.expr()?;
            elements.push(Element { value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("]", "{']', ','}")?;
        self.tree -= 1;
        Ok(Expr { id, kind: Kind::List(elements) })
    }

    fn map(&mut self) -> Read<Expr> {
        let open = self.take();
        let id = self.id(open.at);
        self.deeper()?;
        let mut entries = Vec::new();
        self.lone_comma("}");
        while !self.sees("}") {
            if !entries.is_empty() && self.sees(",") {
                self.expect("}", "'}'")?;
            }
            let optional = self.accept("?").is_some();
            let key = self.expr()?;
            self.expect(":", "':'")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}", "{'}', ','}")?;
        self.tree -= 1;
        Ok(Expr { id, kind: Kind::Map(entries) })
    }

    fn number(&mut self, lexeme: Lexeme<'s>, sign: &str, at: usize) -> Expr {
        let text = lexeme.text;
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let literal = match lexeme.token {
            Token::Int => i64::from_str_radix(&format!("{sign}{digits}"), radix).map(Literal::Int).map_err(|_| "int"),
            Token::Uint => {
                let digits = &digits[..digits.len() - 1];
                u64::from_str_radix(digits, radix).map(Literal::Uint).map_err(|_| "uint")
            }
            _ => {
                let number = format!("{sign}{text}").parse::<f64>().ok().filter(|number| number.is_finite());
                number.map(Literal::Double).ok_or("double")
            }
        };
        match literal {
            Ok(literal) => self.node(at, Kind::Literal(literal)),
            Err(kind) => self.wrong(at, format!("invalid {kind} literal")),
        }
    }

    fn text(&mut self, lexeme: Lexeme<'s>) -> Expr {
        let bytes = lexeme.token == Token::Bytes;
        let unquoted = unquote(&lexeme.text[usize::from(bytes)..], bytes);
        let literal = match unquoted {
            Ok(text) if bytes => Literal::Bytes(text.into()),
            Ok(text) => Literal::String(Arc::from(String::from_utf8_lossy(&text).as_ref())),
            Err(why) => return self.wrong(lexeme.at, why),
        };
        self.node(lexeme.at, Kind::Literal(literal))
    }
}

const OPERAND_OR_CLOSE: &str = "'[', '{', '(', ')', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                                NUM_UINT, STRING, BYTES, IDENTIFIER";

/// Antlr writes line ends of tokens as escapes.
fn shown(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

pub(super) fn global(function: &str, arguments: Vec<Expr>) -> Kind {
    Kind::Call { function: function.into(), target: None, arguments }
}

/// The terms in order with the operators between them, the middle one on top.
fn balanced(terms: &mut std::vec::IntoIter<Expr>, operators: &[Id], function: &str) -> Option<Expr> {
    let Some(middle) = operators.len().checked_sub(1).map(|last| last.div_ceil(2)) else {
        return terms.next();
    };
    let left = balanced(terms, &operators[..middle], function)?;
    let right = balanced(terms, &operators[middle + 1..], function)?;
    Some(Expr { id: operators[middle], kind: global(function, vec![left, right]) })
}

/// The bytes of a literal without its quotes and escapes.
fn unquote(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let raw = text.starts_with(['r', 'R']);
    let text = &text[usize::from(raw)..];
    let quotes = if text.len() >= 6 && (text.starts_with("\"\"\"") || text.starts_with("'''")) { 3 } else { 1 };
    let mut rest = &text[quotes..text.len() - quotes];
    if raw {
        return Ok(rest.as_bytes().to_vec());
    }
    let mut plain = Vec::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        plain.extend_from_slice(&rest.as_bytes()[..at]);
        let escaped = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let number = |length: usize, radix| {
            let digits = rest.get(at + if radix == 8 { 1 } else { 2 }..)?.get(..length)?;
            u32::from_str_radix(digits, radix).ok()
        };
        let (code, length) = match escaped {
            b'a' => (Some(7), 2),
            b'b' => (Some(8), 2),
            b'f' => (Some(12), 2),
            b'n' => (Some(10), 2),
            b'r' => (Some(13), 2),
            b't' => (Some(9), 2),
            b'v' => (Some(11), 2),
            b'x' | b'X' => (number(2, 16), 4),
            b'u' | b'U' if bytes => return Err("unable to unescape string"),
            b'u' => (number(4, 16), 6),
            b'U' => (number(8, 16), 10),
            b'0'..=b'3' => (number(3, 8), 4),
            other => (Some(u32::from(other)), 2),
        };
        let code = code.ok_or("unable to unescape string")?;
        match (bytes, u8::try_from(code), char::from_u32(code)) {
            (true, Ok(byte), _) => plain.push(byte),
            (false, _, Some(c)) => plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return Err("invalid unicode code point"),
        }
        rest = &rest[at + length..];
    }
    plain.extend_from_slice(rest.as_bytes());
    Ok(plain)
}
