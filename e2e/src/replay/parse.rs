//! Case files: from text to cases.

/// One request with what to do about its answer.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    directives: Vec<(String, String)>,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Case {
    /// A plain request.
    pub fn request(method: &str, path: String, headers: Vec<(String, String)>, body: String) -> Self {
        Self { method: method.to_owned(), path, headers, body, ..Self::default() }
    }

    pub fn all<'a>(&'a self, directive: &'a str) -> impl Iterator<Item = &'a str> {
        self.directives.iter().filter(move |(name, _)| name == directive).map(|(_, argument)| argument.as_str())
    }

    pub fn first<'a>(&'a self, directive: &'a str) -> Option<&'a str> {
        self.all(directive).next()
    }

    pub fn has(&self, directive: &str) -> bool {
        self.first(directive).is_some()
    }
}

/// The cases of a file, in order.
pub fn parse(text: &str) -> Vec<Case> {
    let text = format!("\n{text}");
    text.split("\n### ").skip(1).map(parse_case).collect()
}

fn parse_case(block: &str) -> Case {
    let mut lines = block.lines();
    let mut case = Case { name: lines.next().unwrap_or("").trim().to_owned(), ..Case::default() };
    let mut request = None;
    for line in lines.by_ref() {
        if let Some(comment) = line.strip_prefix('#') {
            case.directives.extend(parse_directive(comment));
        } else if !line.trim().is_empty() {
            request = Some(line.trim());
            break;
        }
    }
    let Some(request) = request else { return case };
    let (method, path) = request.split_once(' ').unwrap_or((request, ""));
    (case.method, case.path) = (method.to_owned(), path.to_owned());
    for line in lines.by_ref().take_while(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        case.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    case.body = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
    case
}

/// `@name argument  (remark)`
fn parse_directive(comment: &str) -> Option<(String, String)> {
    let directive = comment.trim_start().strip_prefix('@')?;
    let (name, argument) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
    let argument = match argument.find("  ") {
        Some(end) if argument[end..].trim_start().starts_with('(') && argument.ends_with(')') => &argument[..end],
        _ => argument,
    };
    Some((name.to_owned(), argument.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case() {
        let cases = parse(
            "### one\n# @capture uid .metadata.uid  (why)\n# @text\nPOST /a?b=c\nAccept: x\n\n{\"a\": 1}\n\n### two\nGET /x\n",
        );
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].first("capture"), Some("uid .metadata.uid"));
        assert!(cases[0].has("text"));
        assert_eq!(
            (cases[0].method.as_str(), cases[0].path.as_str(), cases[0].body.as_str()),
            ("POST", "/a?b=c", "{\"a\": 1}")
        );
        assert_eq!(cases[0].headers, [("Accept".to_owned(), "x".to_owned())]);
        assert_eq!(cases[1].body, "");
    }
}
