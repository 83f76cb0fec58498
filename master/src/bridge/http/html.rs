//! Pages for people, which proxies and portals answer in place of the server behind them.

/// The title of a page, or its first heading; `None` where a body is no page.
pub(super) fn title(kind: &str, body: &[u8]) -> Option<String> {
    const LOOKED_AT: usize = 4096;
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]);
    let lower = text.trim_start().to_ascii_lowercase();
    let is_page = kind.to_ascii_lowercase().starts_with("text/html")
        || lower.starts_with("<!doctype html")
        || lower.starts_with("<html");
    if !is_page {
        return None;
    }
    let title = between(&lower, "<title", "</title>").or_else(|| between(&lower, "<h1", "</h1>"));
    // Of the text as it was written: lower case keeps the length of ASCII only, which is all that was changed.
    let title = title.map(|(from, to)| &text.trim_start()[from..to]).unwrap_or_default();
    let words: Vec<_> = title.split_whitespace().collect();
    Some(words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// Where the text between two tags begins and ends.
fn between(text: &str, open: &str, close: &str) -> Option<(usize, usize)> {
    let begin = text.find(open)?;
    let begin = begin + text[begin..].find('>')? + 1;
    Some((begin, begin + text[begin..].find(close)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_kind_or_its_beginning_and_named_by_its_title() {
        let nginx = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>";
        assert_eq!(title("text/html", nginx).as_deref(), Some("502 Bad Gateway"));
        assert_eq!(
            title("", b"\n<!DOCTYPE HTML><H1 a='b'>Sign\n in</H1>").as_deref(),
            Some("Sign in")
        );
        assert_eq!(title("text/html; charset=utf-8", b"oh").as_deref(), Some(""));
        assert_eq!(title("application/json", b"{\"a\": \"<html>\"}"), None);
    }
}
