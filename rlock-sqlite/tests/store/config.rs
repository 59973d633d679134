//! The URL of a file.

use rlock_sqlite::{ConfigError, SqliteConfig};

#[test]
fn url_of_another_store_is_refused() {
    let error = SqliteConfig::from_url("redis://localhost").unwrap_err();
    assert_eq!(error, ConfigError::Scheme { scheme: "redis".into() });
    for text in ["", "locks.db", ":locks.db", "/var/lib/locks.db", "C-x y:locks.db"] {
        assert_eq!(SqliteConfig::from_url(text), Err(ConfigError::NoScheme), "{text}");
    }
}

#[test]
fn unreadable_option_is_named() {
    let message = SqliteConfig::from_url("sqlite:locks.db?namespace=%ff").unwrap_err().to_string();
    assert!(message.contains("the option namespace") && message.contains("UTF-8"), "{message}");
}

#[test]
fn secrets_are_never_shown() {
    for url in [
        "redis://sam:hunter2@localhost",
        "postgres://sam:hunter2@localhost/sqlite:",
        "sam:hunter2@localhost",
        ":hunter2@localhost",
        "hunter2@localhost:6379",
        "sqlite:locks.db?hunter2",
        "sqlite:locks.db?timeout=hunter2",
    ] {
        let error = SqliteConfig::from_url(url).expect_err(url);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{url}: {shown}");
        }
    }
}
