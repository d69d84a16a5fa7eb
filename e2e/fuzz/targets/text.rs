//! Texts of queries: selectors of labels and fields, continue tokens.
#![no_main]

use std::collections::BTreeMap;

use apiserver::cache::page;
use crds::selector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (choice, rest) = keelson_fuzz::choice(input);
    let Ok(text) = str::from_utf8(rest) else { return };
    match choice % 3 {
        0 => {
            if let Ok(selector) = selector::parse(text) {
                let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b/c".to_owned(), String::new())]);
                selector.matches(&labels);
                selector.matches(&BTreeMap::new());
            }
        }
        1 => drop(selector::parse_fields(text)),
        _ => {
            if let Ok(page) = page::decode(text) {
                let again = page::encode(&page.after, page.revision);
                assert_eq!(page::decode(&again), Ok(page));
            }
        }
    }
});
