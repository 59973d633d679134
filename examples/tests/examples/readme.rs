//! Tests that the pages for users name the right package as the dependency, quote the access rules of Redis, have the
//! options of all URLs, link to files and headings that exist, and have the same code as their translations.

use std::fs;
use std::path::{Path, PathBuf};

use rlock::redis::RedisConfig;

const PAGES: [(&str, &str); 5] = [
    ("README.md", include_str!("../../../README.md")),
    ("README.zh-CN.md", include_str!("../../../README.zh-CN.md")),
    ("docs/watchdog.md", include_str!("../../../docs/watchdog.md")),
    ("docs/watchdog.zh.md", include_str!("../../../docs/watchdog.zh.md")),
    ("docs/guide-map.md", include_str!("../../../docs/guide-map.md")),
];

/// The Markdown files in the root folder of the repository and in its documentation folders.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = [root.clone(), root.join("docs"), root.join("dashboards")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn relative_links_lead_to_files() {
    let documents = documents();
    assert!(documents.len() >= 8, "{documents:?}");
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let link = rest.split([')', '#']).next().unwrap();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}, which is not there", document.display());
        }
    }
}

#[test]
fn anchors_of_links_lead_to_headings() {
    let mut followed = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (at, mark) in text.match_indices("](") {
            let link = text[at + mark.len()..].split(')').next().unwrap();
            let Some((file, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let headings = anchors_of(&fs::read_to_string(&target).unwrap());
            assert!(headings.iter().any(|heading| heading == anchor), "{} links to {link}", document.display());
            followed += 1;
        }
    }
    assert!(followed > 50, "{followed}");
}

/// The anchors that a forge makes of the headings of a page.
fn anchors_of(page: &str) -> Vec<String> {
    let mut in_code = false;
    let headings = page.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The package `rlock` in the registry belongs to another project.
#[test]
fn dependency_lines_name_our_package() {
    let mut named = 0;
    for (page, text) in PAGES {
        for line in text.lines() {
            assert!(!line.trim_start().starts_with("rlock ="), "{page} depends on another project: {line}");
            assert!(!line.contains("docs.rs/rlock/") && !line.contains("docs.rs/rlock)"), "{page}: {line}");
            named += usize::from(line.trim_start().starts_with("rlock-client ="));
        }
    }
    assert!(named >= 4, "each README names rlock-client with and without features, found {named}");
}

/// The lines in the blocks of code of a page, without comments.
fn code(page: &str) -> Vec<&'static str> {
    let (_, text) = PAGES.into_iter().find(|(name, _)| *name == page).expect("it is one of the pages");
    let lines = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let without_comment = |line: &'static str, mark: &str| line.split(mark).next().unwrap_or(line);
    lines.map(|line| ["// ", "# "].into_iter().fold(line, without_comment).trim_end()).collect()
}

#[test]
fn translations_have_the_same_code() {
    for (page, translation) in [("README.md", "README.zh-CN.md"), ("docs/watchdog.md", "docs/watchdog.zh.md")] {
        let original = code(page);
        assert!(original.len() >= 30, "{page}: {original:?}");
        assert_eq!(original, code(translation), "{page} and {translation}");
    }
}

#[test]
fn readmes_quote_the_access_rules_of_redis() {
    let readmes = PAGES.iter().filter(|(page, _)| page.starts_with("README"));
    let texts: Vec<_> = readmes.map(|(_, text)| text).collect();
    for rules in [RedisConfig::ACL_RULES, RedisConfig::SENTINEL_ACL_RULES] {
        assert_eq!(texts.iter().filter(|text| text.contains(rules)).count(), 2, "both contain {rules}");
    }
}

/// The error for an unknown option lists the options of that URL. Each has a row: for its store in the section of all
/// stores, or in the section of its store.
#[test]
fn page_of_options_has_each_option() {
    let page = include_str!("../../../docs/options.md");
    let mut urls = vec![
        ("redis://host", "Redis and Valkey"),
        ("redis-sentinel://host/main", "Redis and Valkey"),
        ("redis-cluster://host", "Redis and Valkey"),
        ("redis+unix:///socket", "Redis and Valkey"),
        ("sqlite:file", "SQLite"),
    ];
    urls.extend(cfg!(feature = "etcd").then_some(("etcd://host", "etcd")));
    urls.extend(cfg!(feature = "postgres").then_some(("postgres://host/app", "Postgres")));
    for (url, section) in urls {
        let error = rlock::blocking::connect(&format!("{url}?no_such_option=1")).unwrap_err().to_string();
        let (_, options) = error.split_once(": there are ").unwrap_or_else(|| panic!("{url}: {error}"));
        let options = options.split(';').next().unwrap_or_default();
        let words = options.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|word| word.len() > 1);
        let options: Vec<_> = words.filter(|word| !["and", "with", "sqlx"].contains(word)).collect();
        assert!(options.len() >= 4, "{url}: {options:?}");
        let store = section.split(' ').next().unwrap_or_default();
        let of_all = rows(page, "All stores").into_iter().filter(|row| row[2] == "all" || row[2].contains(store));
        let rows: Vec<_> = of_all.chain(rows(page, section)).collect();
        for option in options {
            let name = format!("`{option}`");
            assert!(rows.iter().any(|row| row[1].contains(&name)), "{url}: no row has {option}");
        }
    }
}

/// The rows of the tables in a section. A row begins with an empty cell, in front of its first column.
fn rows<'a>(page: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let (_, text) = page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = text.split("\n## ").next().unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines.map(|line| line.split('|').map(str::trim).collect()).collect()
}

#[test]
fn package_is_rlock_client_and_library_is_rlock() {
    let manifest = include_str!("../../../rlock/Cargo.toml");
    assert!(manifest.contains("\nname = \"rlock-client\"\n"), "the package");
    assert!(manifest.contains("[lib]\nname = \"rlock\"\n"), "the library");
    assert!(manifest.contains("documentation = \"https://docs.rs/rlock-client\""), "the link to its docs");
}
